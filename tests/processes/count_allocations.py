"""How often the kernels of an engine allocate, call after call.

Prints for float32 and for bfloat16 the counts of three calls with two threads, and of three with
nine, which is more than the smaller layers have work for.

Usage: LD_PRELOAD=COUNTER count_allocations.py COUNTER MODEL
"""

from __future__ import annotations

import ctypes
import sys

import torch

from efficientad_ext._geometry import resampling_axes
from efficientad_ext.engine import Engine
from efficientad_ext.model_file import Model, load_model

PHASES = ("image", "networks", "autoencoder", "local_map", "global_map", "features")


def counts(library: ctypes.PyDLL, model: Model, precision: str) -> list[int]:
    engine = Engine(model, precision=precision, batch_size=1, features=True)
    plan = engine._plan(1, torch.uint8)
    image = torch.zeros(1, *model.input_size, 3, dtype=torch.uint8)
    size = (2 * model.input_size[0], model.input_size[1])
    axes = resampling_axes(plan.grid, size, "pixel_exact", model.input_size)
    outputs = torch.empty(1, 1, *size), torch.empty(1)
    weights = engine._execution.weights

    def call(threads: int) -> int:
        library.start_counting()
        with engine._execution.workspace() as workspace:
            for phase in PHASES:
                read = image if phase == "image" else None
                plan.run(threads, phase, weights, workspace, read)
            plan.combine(threads, workspace, (0.0, 1.0), (0.0, 1.0), *axes, *outputs)
        return library.stop_counting()

    return [call(threads) for threads in (2, 2, 2, 9, 9, 9)]


def main(counter: str, path: str) -> None:
    library = ctypes.PyDLL(counter)
    model = load_model(path)
    for precision in ("float32", "bfloat16"):
        print(*counts(library, model, precision))


main(*sys.argv[1:])
