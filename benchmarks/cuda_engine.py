"""The engine on a GPU against torch, in one run: same weights, same images, bytes in, map out.

    python benchmarks/cuda_engine.py [--output FILE.json] [--without-compile]

Times are medians by CUDA events of single calls, warmed up; the engine's are replays of a graph in
which its call was captured, torch.compile (max-autotune) brings graphs of its own, and the plain
networks are called as they are. Beside them: the rates that this GPU reaches in a large copy and in
a large float16 matrix product, measured in the same run, and the error of the map against the
networks in float64.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from cuda_timing import (
    captured,
    copy_bytes_per_second,
    median_milliseconds,
    multiplications_per_second,
)
from efficientad.networks import Networks, initial_networks
from efficientad.teacher import random_teacher
from plain_detector import QUANTILES, PlainDetector

from efficientad_ext import Detector, build_config
from efficientad_ext.engine import Engine

SIZE = (256, 256)
BATCHES = (1, 16)
MULTIPLICATIONS = {"small": 38.0e9, "medium": 117.7e9}  # of one image


@torch.no_grad()
def measure(size: Any, batch: int, with_compile: bool) -> dict[str, float]:
    torch.manual_seed(0)

    def networks() -> Networks:
        return initial_networks(size, SIZE, random_teacher(size).weights, 0, torch.device("cuda"))

    images = torch.randint(0, 256, (batch, *SIZE, 3), dtype=torch.uint8, device="cuda")
    model = dataclasses.replace(networks().as_model(size, SIZE, {}), quantiles=QUANTILES)
    engine = Engine(model, "cuda", precision="float16", batch_size=batch)
    detector = Detector(model, "cuda", batch_size=batch)
    expected, _ = PlainDetector(networks(), SIZE, torch.float64)(images)
    result = engine(images, SIZE).map
    error = float((result.double() - expected).norm() / expected.norm())

    half = PlainDetector(networks(), SIZE, torch.float16)
    single = PlainDetector(networks(), SIZE, torch.float32)
    times = {
        "engine": median_milliseconds(captured(lambda: engine(images, SIZE))),
        "engine, called": median_milliseconds(lambda: engine(images, SIZE)),
        "detector, called": median_milliseconds(lambda: detector(images)),
        "torch float16": median_milliseconds(lambda: half(images)),
        "torch float32": median_milliseconds(lambda: single(images)),
    }
    if with_compile:
        compiled = torch.compile(half, mode="max-autotune")
        times["torch.compile float16"] = median_milliseconds(lambda: compiled(images))
    return {"map error": error, **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--without-compile", action="store_true")
    arguments = parser.parse_args()
    rates = {
        "copy_bytes_per_second": copy_bytes_per_second(),
        "multiplications_per_second": multiplications_per_second(),
    }
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: "
        f"copy {rates['copy_bytes_per_second'] / 1e12:.2f} TB/s, "
        f"float16 {2 * rates['multiplications_per_second'] / 1e12:.0f} TFLOP/s",
        flush=True,
    )
    results: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "build": build_config(),
        "ceilings": rates,
        "milliseconds": {},
    }
    for size, multiplications in MULTIPLICATIONS.items():
        for batch in BATCHES:
            figures = measure(size, batch, not arguments.without_compile)
            results["milliseconds"][f"{size} {batch}"] = figures
            floor = batch * multiplications / rates["multiplications_per_second"] * 1000
            engine = figures["engine"]
            print(
                f"{size} batch {batch}: engine {engine:.3f} ms, "
                f"{batch / engine * 1000:.0f} images/s, floor {floor:.3f} ms, "
                f"map error {figures['map error']:.1e}; "
                + ", ".join(
                    f"{name} {time:.3f} ms ({time / engine:.1f}x)"
                    for name, time in figures.items()
                    if name not in ("engine", "map error")
                ),
                flush=True,
            )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
