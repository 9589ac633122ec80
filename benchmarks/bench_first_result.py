"""What a process pays for a detector: time from the model file to a first result, and memory."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from efficientad.networks import initial_networks
from efficientad.teacher import random_teacher
from plain_detector import QUANTILES

from efficientad_ext.model_file import save_model

SIZE = (256, 256)
ATTEMPTS = 5  # a neighbour may be the reason for a slow one

# Beyond a detection itself, which takes longer on a slower processor.
SECONDS = 0.5
# Of resident memory, beyond the interpreter with torch imported.
MEGABYTES = 200

PROCESS = """
import json, sys, time
import numpy, torch

def megabytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

before = megabytes()
from efficientad_ext import Detector
image = numpy.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=numpy.uint8)
times = [time.perf_counter()]
detector = Detector.load(sys.argv[1], precision=sys.argv[2])
for _ in range(4):
    float(detector(image).score[0])
    times.append(time.perf_counter())
later = min(end - begin for begin, end in zip(times[1:], times[2:]))
print(json.dumps([times[1] - times[0] - later, megabytes() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is Linux's")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_first_result(tmp_path: Path, precision: str) -> None:
    networks = initial_networks(
        "small", SIZE, random_teacher("small").weights, 0, torch.device("cpu")
    )
    model = dataclasses.replace(networks.as_model("small", SIZE, {}), quantiles=QUANTILES)
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, str(path), precision],
            cwd=tmp_path,  # where no folder shadows the installed package
            check=True,
            capture_output=True,
            text=True,
        )
        seconds, megabytes = json.loads(done.stdout)
        if seconds <= SECONDS:
            break
    print(f"{precision}: {seconds:.2f} s to a first result, {megabytes:.0f} MB")
    assert seconds <= SECONDS
    assert megabytes <= MEGABYTES
