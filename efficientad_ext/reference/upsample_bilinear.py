"""Plain-torch reference of :func:`efficientad_ext.ops.upsample_bilinear`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from efficientad_ext._geometry import resampling_axes


def interpolation_matrix(
    input_length: int, output_length: int, step: float, start: float
) -> Tensor:
    """The (output, input) matrix of linear interpolation at clamp(step * i + start), in float64."""
    position = torch.arange(output_length, dtype=torch.float64) * step + start
    position = position.clamp(0, input_length - 1)
    lower = position.floor().long()
    upper = (lower + 1).clamp(max=input_length - 1)
    fraction = (position - lower).unsqueeze(1)
    one_hot = torch.eye(input_length, dtype=torch.float64)
    return one_hot[lower] * (1 - fraction) + one_hot[upper] * fraction


def upsample_bilinear(
    x: Tensor,
    size: tuple[int, int],
    *,
    alignment: Literal["half_pixel", "pixel_exact"] = "half_pixel",
    input_size: tuple[int, int] | None = None,
) -> Tensor:
    """Bilinear resampling as a product with one interpolation matrix per axis."""
    rows, columns = resampling_axes(x.shape[-2:], size, alignment, input_size)
    vertical = interpolation_matrix(x.shape[-2], size[0], *rows).to(x)
    horizontal = interpolation_matrix(x.shape[-1], size[1], *columns).to(x)
    return vertical @ x @ horizontal.T
