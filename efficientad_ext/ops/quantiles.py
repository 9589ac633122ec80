"""Exact quantiles of any number of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from efficientad_ext import _C
from efficientad_ext._checks import check_floating, needs_gradient
from efficientad_ext._once_differentiable import once_differentiable
from efficientad_ext._registry import Backend, register


def _implementation(backend: Backend, x: Tensor, ranks: Sequence[int]) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    values = x.new_empty(len(ranks))
    nan_count = x.new_empty(8, dtype=torch.uint8)
    workspace = backend.workspace("order_statistics", x.device, x, ranks)
    backend.run("order_statistics", x.device, x, ranks, values, nan_count, workspace)
    return values, nan_count.view(torch.int64)


def _fake(x: Tensor, ranks: Sequence[int]) -> tuple[Tensor, Tensor]:
    return x.new_empty(len(ranks)), x.new_empty(1, dtype=torch.int64)


_raw = register(
    "order_statistics(Tensor x, int[] ranks) -> (Tensor, Tensor)", _implementation, _fake
)


def _order_statistics(x: Tensor, ranks: Sequence[int]) -> Tensor:
    # Ascending ranks let neighbours share work.
    distinct = sorted(set(ranks))
    found = []
    for first in range(0, len(distinct), _C.cpu.maximum_ranks):
        values, nan_count = _raw(x, distinct[first : first + _C.cpu.maximum_ranks])
        nans = int(nan_count)
        if nans:
            raise ValueError(
                f"x holds {nans} NaN among {x.numel()} elements; quantiles are defined for "
                "numbers only"
            )
        found.append(values)
    values = torch.cat(found)
    positions = [distinct.index(rank) for rank in ranks]
    return values[torch.tensor(positions, device=x.device)]


class _OrderStatistics(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Sequence[int]) -> Tensor:
        values = _order_statistics(x, ranks)
        ctx.save_for_backward(x, values)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, values = ctx.saved_tensors
        result = torch.zeros_like(x)
        for value, share in zip(values, gradient, strict=True):
            # Equal elements share the gradient, as for torch.amax.
            equal = x == value
            result += equal * (share / equal.sum())
        return result, None


def quantiles(x: Tensor, q: float | Sequence[float]) -> Tensor:
    """Exact quantiles of all elements of ``x``, interpolated linearly as numpy does by default.

    The calibration of the maps (EfficientAD, section 3.4). There is no limit to the number of
    elements, and nothing is sorted. On a CUDA device the call waits for the result, to tell of a
    NaN. The gradient goes to the two order statistics that each quantile lies between; it can be
    taken once.

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
    fractions = [float(q)] if isinstance(q, (int, float)) else [float(value) for value in q]
    if x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; no elements have no quantiles")
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise ValueError(f"q holds {fraction}; expected fractions from 0 to 1")
    result_type = torch.float64 if x.dtype == torch.float64 else torch.float32
    if not fractions:
        return x.new_empty(0, dtype=result_type)

    positions = [fraction * (x.numel() - 1) for fraction in fractions]
    lower_ranks = [math.floor(position) for position in positions]
    upper_ranks = [math.ceil(position) for position in positions]
    ranks = lower_ranks + upper_ranks
    select = _OrderStatistics.apply if needs_gradient(x) else _order_statistics
    values = select(x, ranks)
    lower, upper = values.double().chunk(2)
    weights = [position - rank for position, rank in zip(positions, lower_ranks, strict=True)]
    weight = torch.tensor(weights, dtype=torch.float64, device=x.device)
    # Equal infinities have no difference to interpolate.
    interpolated = torch.where(lower == upper, lower, torch.lerp(lower, upper, weight))
    return interpolated.to(result_type)
