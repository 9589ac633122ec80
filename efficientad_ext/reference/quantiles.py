"""Plain-torch reference of :func:`efficientad_ext.ops.quantiles`."""

from __future__ import annotations

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
        lower = int(position)
        upper = min(lower + 1, ordered.numel() - 1)
        results.append(
            torch.lerp(ordered[lower].double(), ordered[upper].double(), position - lower)
        )
    return torch.stack(results).to(x.dtype)
