"""Plain-torch reference of :func:`efficientad_ext.ops.resize_normalize`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext._preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN, WHITE, channels_first


def resize_normalize(
    image: Tensor,
    size: tuple[int, int],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    deviation: Sequence[float] = IMAGENET_DEVIATION,
    background: Sequence[float] = WHITE,
) -> Tensor:
    """Scaling, compositing, torch's antialiased resize and normalisation, one after the other."""
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
    resized = functional.interpolate(
        pixels, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return (resized - per_channel(mean)) / per_channel(deviation)
