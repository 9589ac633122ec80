"""Plain-torch reference of :func:`efficientad_ext.ops.resize_normalize`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efficientad_ext.preprocessing import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    WHITE,
    channels_first,
)


def averaging_matrix(input_length: int, output_length: int) -> Tensor:
    """The (output, input) matrix of the triangle filter, in float64.

    It is that of torch's ``interpolate(antialias=True)``, which is not used here because on the CPU
    it gives wrong values for an output of width 1 (torch 2.13).
    """
    scale = input_length / output_length
    support = max(scale, 1.0)
    centre = scale * (torch.arange(output_length, dtype=torch.float64) + 0.5).unsqueeze(1)
    sample = torch.arange(input_length, dtype=torch.float64)
    weight = (1 - ((sample - centre + 0.5) / support).abs()).clamp(min=0)
    first = (centre - support + 0.5).trunc()
    end = (centre + support + 0.5).trunc()
    weight = weight * ((sample >= first) & (sample < end))
    return weight / weight.sum(dim=1, keepdim=True)


def resize_normalize(
    image: Tensor,
    size: tuple[int, int],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    deviation: Sequence[float] = IMAGENET_DEVIATION,
    background: Sequence[float] = WHITE,
) -> Tensor:
    """Scaling, compositing, a product with one matrix per axis, and normalisation in turn."""
    pixels = channels_first(image)
    result_type = torch.float64 if image.dtype == torch.float64 else torch.float32
    if image.dtype == torch.uint8:
        pixels = pixels.to(result_type) / 255
    elif image.dtype == torch.uint16:
        pixels = pixels.to(result_type) / 65535
    else:
        pixels = pixels.to(result_type)

    def per_channel(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=result_type, device=image.device).view(1, 3, 1, 1)

    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    elif pixels.shape[1] == 4:
        alpha = pixels[:, 3:]
        pixels = pixels[:, :3] * alpha + per_channel(background) * (1 - alpha)
    vertical = averaging_matrix(pixels.shape[2], size[0]).to(pixels)
    horizontal = averaging_matrix(pixels.shape[3], size[1]).to(pixels)
    return (vertical @ pixels @ horizontal.T - per_channel(mean)) / per_channel(deviation)
