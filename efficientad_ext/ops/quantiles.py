"""Exact quantiles of any number of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from efficientad_ext import _C
from efficientad_ext._checks import check_floating
from efficientad_ext._derivatives import register_gradient
from efficientad_ext._registry import Backend, register


def _result_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _positions(x: Tensor, q: Sequence[float]) -> list[float]:
    """Where the quantiles lie among the elements in ascending order, counted from 0."""
    return [fraction * (x.numel() - 1) for fraction in q]


def _shares(x: Tensor, q: Sequence[float]) -> Tensor:
    """How far each quantile lies from the order statistic below it to the one above it."""
    shares = [position - math.floor(position) for position in _positions(x, q)]
    return torch.tensor(shares, dtype=torch.float64, device=x.device)


def _order_statistics(backend: Backend, x: Tensor, ranks: Sequence[int]) -> Tensor:
    x = x.contiguous()
    # Ascending ranks let neighbours share work.
    distinct = sorted(set(ranks))
    found = []
    for first in range(0, len(distinct), _C.cpu.maximum_ranks):
        wanted = distinct[first : first + _C.cpu.maximum_ranks]
        values = x.new_empty(len(wanted))
        nan_count = x.new_empty(8, dtype=torch.uint8)
        workspace = backend.workspace("order_statistics", x.device, x, wanted)
        backend.run("order_statistics", x.device, x, wanted, values, nan_count, workspace)
        nans = int(nan_count.view(torch.int64))
        if nans:
            raise ValueError(
                f"x holds {nans} NaN among {x.numel()} elements; quantiles are defined for "
                "numbers only"
            )
        found.append(values)
    positions = [distinct.index(rank) for rank in ranks]
    return torch.cat(found)[torch.tensor(positions, device=x.device)]


def _implementation(backend: Backend, x: Tensor, q: Sequence[float]) -> tuple[Tensor, Tensor]:
    positions = _positions(x, q)
    ranks = [*map(math.floor, positions), *map(math.ceil, positions)]
    statistics = _order_statistics(backend, x, ranks)
    lower, upper = statistics.double().chunk(2)
    # Equal infinities have no difference to interpolate.
    interpolated = torch.where(lower == upper, lower, torch.lerp(lower, upper, _shares(x, q)))
    return interpolated.to(_result_type(x)), statistics


def _fake(x: Tensor, q: Sequence[float]) -> tuple[Tensor, Tensor]:
    return x.new_empty(len(q), dtype=_result_type(x)), x.new_empty(2 * len(q))


_raw = register(
    # The second result holds the order statistics below the quantiles, then those above them.
    "quantiles(Tensor x, float[] q) -> (Tensor, Tensor)",
    _implementation,
    _fake,
)


def _save(
    context: Any, arguments: tuple[Tensor, Sequence[float]], results: tuple[Tensor, Tensor]
) -> None:
    x, context.q = arguments
    context.save_for_backward(x, results[1])
    context.mark_non_differentiable(results[1])


def _backward(context: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:
    x, statistics = context.saved_tensors
    upper = _shares(x, context.q)
    received = torch.cat([gradient * (1 - upper), gradient * upper])
    result = torch.zeros_like(x, dtype=torch.float64)
    for statistic, share in zip(statistics, received, strict=True):
        # Equal elements share the gradient, as for torch.amax.
        equal = x == statistic
        result = result + equal * (share / equal.sum())
    return result.to(x.dtype), None


_call = register_gradient(_raw, _save, _backward)


def quantiles(x: Tensor, q: float | Sequence[float]) -> Tensor:
    """Exact quantiles of all elements of ``x``, interpolated linearly as numpy does by default.

    The calibration of the maps (EfficientAD, section 3.4). There is no limit to the number of
    elements, and nothing is sorted. On a CUDA device the call waits for the result, to tell of a
    NaN. The gradient goes to the two order statistics that each quantile lies between.

    Args:
        x: float64, float32, float16 or bfloat16, any shape, at least one element.
        q: one or several fractions, each in [0, 1].

    Returns:
        The quantiles, one for each fraction, in a tensor of one dimension: float64 for float64,
        else float32.

    Raises:
        TypeError: for another element type.
        ValueError: if ``x`` has no element or a NaN, or a fraction is outside [0, 1].
    """
    check_floating("x", x)
    fractions = [float(q)] if isinstance(q, (float, Real)) else [float(value) for value in q]
    if x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; no elements have no quantiles")
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise ValueError(f"q holds {fraction}; expected fractions from 0 to 1")
    if not fractions:
        return x.new_empty(0, dtype=_result_type(x))
    return _call(x, fractions)[0]
