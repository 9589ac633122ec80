"""Timing on a GPU by events, and what the GPU reaches at best."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

Call = Callable[[], object]


def median_milliseconds(call: Call, seconds: float = 0.5) -> float:
    """The median duration of one call on the GPU, warmed up."""
    for _ in range(3):
        call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times: list[float] = []
    while len(times) < 10 or (sum(times) < seconds * 1000 and len(times) < 2000):
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def captured(call: Call) -> Call:
    """The same work as the replay of a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def copy_bytes_per_second() -> float:
    """Bytes read and written by a large copy."""
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_milliseconds(lambda: target.copy_(source)) * 1000


def multiplications_per_second() -> float:
    """Multiply-adds of a large float16 matrix product on random numbers."""
    a, b = (torch.randn(8192, 8192, device="cuda").half() for _ in range(2))
    return 8192**3 / median_milliseconds(lambda: a @ b) * 1000
