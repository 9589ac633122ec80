"""What a model says of images, in a process of its own, and what the process then does in a second.

Prints the processor time, in seconds, of that second of sleep.

Usage: detect.py MODEL IMAGES RESULTS
"""

from __future__ import annotations

import sys
import time

import torch

from efficientad_ext import Detector
from efficientad_ext.engine import Engine
from efficientad_ext.model_file import load_model


def main(path: str, images: str, results: str) -> None:
    model = load_model(path)
    image = torch.load(images)
    outputs = [Engine(model, precision=name)(image)[:2] for name in ("float32", "bfloat16")]
    detection = Detector(model)(list(image))
    torch.save([*outputs, (detection.map, detection.picturable_score)], results)
    start = time.process_time()
    time.sleep(1)
    print(time.process_time() - start)


main(*sys.argv[1:])
