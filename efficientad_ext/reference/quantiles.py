"""Plain-torch reference of :func:`efficientad_ext.ops.quantiles`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def quantiles(x: Tensor, q: float | Sequence[float]) -> Tensor:
    """Quantiles with linear interpolation, by sorting every element."""
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    ordered = x.flatten().sort().values
    results = []
    for fraction in [q] if isinstance(q, (int, float)) else q:
        position = fraction * (ordered.numel() - 1)
        lower, upper = (
            ordered[rank].double() for rank in (math.floor(position), math.ceil(position))
        )
        # Equal infinities have no difference to interpolate.
        interpolated = torch.lerp(lower, upper, position - math.floor(position))
        results.append(lower if lower == upper else interpolated)
    return torch.stack(results).to(x.dtype)
