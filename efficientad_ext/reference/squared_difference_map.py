"""Plain-torch reference of :func:`efficientad_ext.ops.squared_difference_map`."""

from __future__ import annotations

from torch import Tensor


def squared_difference_map(a: Tensor, b: Tensor) -> Tensor:
    """The squared difference, averaged over channels, by writing the difference out."""
    return (a - b).square().mean(dim=1, keepdim=True)
