"""The two augmentations of EfficientAD's training (appendix of the paper, training algorithm).

Both work on pixel values in [0, 1], shaped (3, H, W), before the ImageNet normalisation. The
definitions of brightness, contrast, saturation and gray follow torchvision's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)
FACTOR_RANGE = (0.8, 1.2)
PENALTY_GRAYSCALE_PROBABILITY = 0.3


def to_gray(image: Tensor) -> Tensor:
    """The luma of an RGB image: (3, H, W) to (1, H, W)."""
    weights = torch.tensor(GRAY_WEIGHTS, dtype=image.dtype, device=image.device)
    return (image * weights.view(3, 1, 1)).sum(0, keepdim=True)


def adjust_brightness(image: Tensor, factor: float) -> Tensor:
    """Blends with black: 0 is black, 1 leaves the image as it is. (3, H, W) in [0, 1]."""
    return (image * factor).clamp(0, 1)


def adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """Blends with the mean luma of the image: 0 is a gray area. (3, H, W) in [0, 1]."""
    return (to_gray(image).mean() * (1 - factor) + image * factor).clamp(0, 1)


def adjust_saturation(image: Tensor, factor: float) -> Tensor:
    """Blends with the gray version of the image: 0 is gray. (3, H, W) in [0, 1]."""
    return (to_gray(image) * (1 - factor) + image * factor).clamp(0, 1)


def augment(image: Tensor, random: np.random.Generator) -> Tensor:
    """I' of the paper: one of brightness, contrast and saturation, by a factor from U(0.8, 1.2)."""
    adjust = (adjust_brightness, adjust_contrast, adjust_saturation)[random.integers(3)]
    return adjust(image, float(random.uniform(*FACTOR_RANGE)))


def augment_penalty(image: Tensor, random: np.random.Generator) -> Tensor:
    """Turns an image of the pretraining penalty gray with probability 0.3; (3, H, W) in [0, 1]."""
    if random.random() < PENALTY_GRAYSCALE_PROBABILITY:
        return to_gray(image).expand_as(image)
    return image


def centre_crop(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle (height, width) of an image of at least that size; (3, H, W) to (3, h, w)."""
    height, width = size
    top = (image.shape[-2] - height) // 2
    left = (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]
