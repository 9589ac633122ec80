"""What a teacher's features tell without any training: distance to the nearest normal feature.

    python benchmarks/accuracy/nearest_patches.py DATA... [--teachers TEACHER...] [--size SIZE]
        [--images N] [--features N] [--seed N] [--output FILE.json]

A bank is drawn of the features of training images, each channel normalised by the bank's mean and
deviation. A test image's score is the largest distance of one of its features to the nearest in the
bank (as in PatchCore, Roth et al. 2022, but for its choice of the bank and its weights). A teacher
is default, random, or a file. Prints the image AU-ROC in percent, of all anomalies and of each
kind; features are computed in what the processor is fast in, see ``efficientad.precision``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from efficientad.datasets import find_dataset, find_test_set
from efficientad.loader import ImageStore, normalize
from efficientad.metrics import image_auroc
from efficientad.networks import pdn
from efficientad.precision import precision_on
from efficientad.progress import with_progress
from efficientad.teacher import Teacher, named_teacher
from torch import Tensor, nn

from efficientad_ext.architecture import FEATURE_CHANNELS, SIZES
from efficientad_ext.model_file import write_atomically

INPUT_SIZE = (256, 256)
PRECISION = precision_on(torch.device("cpu"), "auto")
FEATURES_AT_ONCE = 1024


def network_of(teacher: Teacher) -> nn.Sequential:
    network = pdn(teacher.size, FEATURE_CHANNELS)
    network.load_state_dict(teacher.weights)
    return network.eval().to(memory_format=torch.channels_last)


def features(network: nn.Sequential, paths: Sequence[Path], title: str) -> Iterator[Tensor]:
    """(features, 384) of each image."""
    images = ImageStore(paths, INPUT_SIZE, budget=0)
    for index in with_progress(title, "image", range(len(images))):
        image = normalize(images[index])[None].to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bfloat16"):
            maps = network(image)
        yield maps.float()[0].flatten(1).T


def nearest(queries: Tensor, bank: Tensor) -> Tensor:
    """The squared distance of each query to the nearest row of the bank."""
    norms = bank.float().square().sum(1)
    found = []
    for some in queries.split(FEATURES_AT_ONCE):
        products = (some.to(bank.dtype) @ bank.T).float()
        found.append((norms - 2 * products).amin(1) + some.square().sum(1))
    return torch.cat(found)


@torch.inference_mode()
def measure(data: Path, teacher: str, arguments: argparse.Namespace) -> dict[str, Any]:
    network = network_of(named_teacher(teacher, arguments.size))
    train = find_dataset(data).train
    generator = torch.Generator().manual_seed(arguments.seed)
    order = torch.randperm(len(train), generator=generator)[: arguments.images]
    drawn = [
        maps[torch.randperm(len(maps), generator=generator)[: arguments.features]]
        for maps in features(network, [train[index] for index in order], "bank")
    ]
    bank = torch.cat(drawn)
    deviation, mean = torch.std_mean(bank, dim=0)
    bank = ((bank - mean) / deviation).to(getattr(torch, PRECISION))
    images = find_test_set(data).images
    scores = [
        float(nearest((maps - mean) / deviation, bank).max())
        for maps in features(network, [image.path for image in images], "test images")
    ]
    normal = [score for score, image in zip(scores, images, strict=True) if not image.anomalous]

    def auroc(anomalous: list[float]) -> float:
        labels = [False] * len(normal) + [True] * len(anomalous)
        return round(100 * image_auroc(normal + anomalous, labels), 1)

    kinds: dict[str, list[float]] = {}
    for score, image in zip(scores, images, strict=True):
        if image.anomalous:
            kinds.setdefault(image.label, []).append(score)
    return {
        "data": data.name,
        "teacher": Path(teacher).stem,
        "size": arguments.size,
        "precision": PRECISION,
        "image AU-ROC": auroc([score for found in kinds.values() for score in found]),
        "by kind": {kind: auroc(found) for kind, found in kinds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+", help="folders in the layout of MVTec AD")
    parser.add_argument("--teachers", nargs="+", default=["default", "random"])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--images", type=int, default=120, help="training images for the bank")
    parser.add_argument("--features", type=int, default=80, help="features of each of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results = []
    for data in arguments.data:
        for teacher in arguments.teachers:
            results.append(measure(data, teacher, arguments))
            print(json.dumps(results[-1]), flush=True)
    if arguments.output:
        write_atomically(arguments.output, (json.dumps(results, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
