"""What an image tensor means: its layouts, and the constants that the networks expect."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
WHITE = (1.0, 1.0, 1.0)

_INTEGER_TYPES = (torch.uint8, torch.uint16)


def channels_first(image: Tensor) -> Tensor:
    """A view of ``image`` as (N, C, H, W).

    Integer images are (H, W), (H, W, C) or (N, H, W, C); floating images (C, H, W) or (N, C, H, W).

    Raises:
        TypeError: for no tensor, or another element type.
        ValueError: for another number of dimensions, for a number of channels other than 1, 3 or 4,
            or for an image without pixels.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"the image is of type {type(image).__name__}; expected a torch.Tensor")
    dimensions: tuple[int, ...]
    if image.dtype in _INTEGER_TYPES:
        layout, dimensions = "(H, W), (H, W, C) or (N, H, W, C)", (2, 3, 4)
    elif image.dtype.is_floating_point:
        layout, dimensions = "(C, H, W) or (N, C, H, W)", (3, 4)
    else:
        raise TypeError(f"image is {image.dtype}; expected uint8, uint16 or a floating type")
    if image.dim() not in dimensions:
        raise ValueError(
            f"image of {image.dtype} has shape {tuple(image.shape)}; expected {layout}"
        )
    pixels = image
    if image.dtype in _INTEGER_TYPES:
        if pixels.dim() == 2:
            pixels = pixels.unsqueeze(-1)
        pixels = pixels.movedim(-1, -3)
    if pixels.dim() == 3:
        pixels = pixels.unsqueeze(0)
    if pixels.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"image of {image.dtype} has shape {tuple(image.shape)}, that is {pixels.shape[1]} "
            f"channels; expected 1, 3 or 4 channels in {layout}"
        )
    if pixels.shape[2] == 0 or pixels.shape[3] == 0:
        raise ValueError(f"image has shape {tuple(image.shape)}, without any pixel")
    return pixels
