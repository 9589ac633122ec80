"""Time and memory of the exact pixel metrics for 200 maps of 1024x1024: python pixel_metrics.py.

Fails above 60 s or 2 GiB. A twentieth of the images' pixels is anomalous on the average, in regions
of all sizes; making the maps is not part of the time, but of the memory.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
from efficientad.metrics import PixelScores

MAPS, SIDE = 200, 1024
SECONDS, BYTES = 60, 2 * 2**30


def make(random: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray | None]:
    scores = random.standard_normal((SIDE, SIDE), dtype=np.float32)
    if number % 4 == 0:
        return scores, None
    mask = np.zeros((SIDE, SIDE), bool)
    for _ in range(random.integers(1, 20)):
        y, x = random.integers(0, SIDE - 16, 2)
        height, width = np.exp(random.uniform(1, np.log(400), 2)).astype(int)
        mask[y : y + height, x : x + width] = True
    scores[mask] += 1
    return scores, mask


def main() -> None:
    random = np.random.default_rng(0)
    metrics = PixelScores()
    seconds = 0.0
    anomalous = 0
    for number in range(MAPS):
        scores, mask = make(random, number)
        anomalous += 0 if mask is None else int(mask.sum())
        start = time.perf_counter()
        if mask is None:
            metrics.add(scores)
        else:
            metrics.add(scores, mask, [(mask, int(mask.sum()) // 2 + 1)])
        seconds += time.perf_counter() - start
    print(f"{MAPS} maps of {SIDE}x{SIDE}, {anomalous / MAPS / SIDE**2:.1%} of the pixels anomalous")
    print(f"gathering: {seconds:.1f} s")
    for name, figure in (
        ("pixel AU-ROC", metrics.pixel_auroc),
        ("AU-PRO to 30 %", metrics.au_pro),
        ("AU-sPRO to 5 %", lambda: metrics.au_spro(0.05)),
        ("PRO curve", lambda: metrics.pro_curve()[1].max()),
    ):
        start = time.perf_counter()
        value = figure()
        elapsed = time.perf_counter() - start
        seconds += elapsed
        print(f"{name}: {elapsed:.1f} s ({value:.6f})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(f"in all: {seconds:.1f} s of at most {SECONDS}, peak {peak / 2**30:.2f} GiB of at most 2")
    if seconds > SECONDS or peak > BYTES:
        sys.exit("too much")


if __name__ == "__main__":
    main()
