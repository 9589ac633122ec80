"""The ops that memory bounds, on a GPU, at sizes that no cache holds.

    python benchmarks/cuda_bandwidth.py [--output FILE.json]

The rate counts every input once and every output once, whatever the op really moves, and is given
as a share of what a large copy reaches in the same run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from cuda_timing import copy_bytes_per_second, median_milliseconds
from torch import Tensor

from efficientad_ext import ops

Case = tuple[Callable[[], object], int]


def moved(*tensors: Tensor) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def features(dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(64, 384, 56, 56, device="cuda", dtype=dtype)


def cases() -> dict[str, Case]:
    a, b = features(), features()
    last_a, last_b = (x.contiguous(memory_format=torch.channels_last) for x in (a, b))
    teacher, student = features(torch.float32), features(torch.float32)
    maps = torch.rand(512, 1, 56, 56, device="cuda"), torch.rand(512, 1, 56, 56, device="cuda")
    combined = 512 * 256 * 256 * 4
    small = torch.randn(32, 64, 128, 128, device="cuda").half()
    frames = torch.randint(0, 256, (16, 2048, 2048, 3), device="cuda", dtype=torch.uint8)
    resized = 16 * 3 * 256 * 256 * 4
    quantiles = (0.1, 0.9, 0.1, 0.9)
    return {
        "squared_difference_map, planes": (
            lambda: ops.squared_difference_map(a, b),
            moved(a, b),
        ),
        "squared_difference_map, channels-last": (
            lambda: ops.squared_difference_map(last_a, last_b),
            moved(a, b),
        ),
        "hard_feature_loss": (
            lambda: ops.hard_feature_loss(teacher, student),
            moved(teacher, student),
        ),
        "quantiles": (lambda: ops.quantiles(teacher, (0.9, 0.995)), moved(teacher)),
        "normalize_and_combine": (
            lambda: ops.normalize_and_combine(*maps, quantiles, (256, 256)),
            moved(*maps) + combined,
        ),
        "upsample_bilinear": (
            lambda: ops.upsample_bilinear(small, (256, 256)),
            moved(small) * 5,
        ),
        "resize_normalize": (
            lambda: ops.resize_normalize(frames, (256, 256)),
            moved(frames) + resized,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    copy = copy_bytes_per_second()
    results = {}
    for name, (call, size) in cases().items():
        rate = size / median_milliseconds(call) * 1000
        results[name] = rate / copy
        print(
            f"{name:40} {rate / 1e12:6.2f} TB/s, {100 * rate / copy:4.0f} % of a copy", flush=True
        )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(
            json.dumps(
                {
                    "gpu": torch.cuda.get_device_name(),
                    "copy_bytes_per_second": copy,
                    "share_of_copy": results,
                },
                indent=2,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
