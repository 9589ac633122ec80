"""Crops of photos, each resized to 256x256 for the teacher and to 512x512 for its backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from efficientad.augmentation import to_gray
from efficientad.loader import normalize
from efficientad_ext import ops
from efficientad_ext.images import load_image

TEACHER_SIDE = 256
BACKBONE_SIDE = 512
SMALLEST_PHOTO = 128
MIRROR_PROBABILITY = 0.5
GRAYSCALE_PROBABILITY = 0.1
# The shortest side of a crop, as a share of the photo's shorter side.
_SMALLEST_SHARE = 0.75
# How far the sides of a crop may differ, since it is resized to a square.
_LARGEST_ASPECT = 4 / 3


@dataclass(frozen=True)
class Crop:
    """A rectangle of a photo, and what is to be done with it.

    Attributes:
        pixels: (H, W) or (H, W, C), uint8 or uint16.
        mirrored: whether left and right change places.
        gray: whether it loses its colour.
    """

    pixels: Tensor
    mirrored: bool = False
    gray: bool = False


def load_photo(path: Path, size: tuple[int, int]) -> Tensor:
    """A photo as it is, if it is at least as large as ``size`` both ways.

    Raises:
        ValueError, OSError: if it is smaller, or cannot be read as an image.
    """
    photo = torch.from_numpy(load_image(path))
    height, width = photo.shape[:2]
    if height < size[0] or width < size[1]:
        raise ValueError(
            f"{path} has {height}x{width} pixels; expected at least {size[0]}x{size[1]}"
        )
    return photo


def random_crop(photo: Tensor, random: np.random.Generator) -> Crop:
    """A rectangle of the photo, mirrored every other time, and gray every tenth time.

    Its shorter side is at least three quarters of the photo's, its longer side at most a third
    more, and within that the height is uniform, and the width, given the height.
    """
    rows, columns = photo.shape[:2]
    smallest = _SMALLEST_SHARE * min(rows, columns)
    height = _length(random, smallest, min(rows, _LARGEST_ASPECT * columns))
    width = _length(
        random,
        max(smallest, height / _LARGEST_ASPECT),
        min(columns, _LARGEST_ASPECT * height),
    )
    top = int(random.integers(rows - height + 1))
    left = int(random.integers(columns - width + 1))
    pixels = photo[top : top + height, left : left + width]
    mirrored, gray = random.random(2) < (MIRROR_PROBABILITY, GRAYSCALE_PROBABILITY)
    return Crop(pixels, bool(mirrored), bool(gray))


def central_crop(photo: Tensor) -> Crop:
    """The largest square in the middle of the photo."""
    side = min(photo.shape[:2])
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    return Crop(photo[top : top + side, left : left + side])


def batch(crops: list[Crop], side: int, device: torch.device) -> Tensor:
    """The crops resized to a square, normalised: (N, 3, side, side) float32, channels-last."""
    images = torch.cat([_resized(crop, side, device) for crop in crops])
    return images.contiguous(memory_format=torch.channels_last)


def _resized(crop: Crop, side: int, device: torch.device) -> Tensor:
    pixels = ops.resize_normalize(
        crop.pixels.to(device), (side, side), mean=(0, 0, 0), deviation=(1, 1, 1)
    )
    if crop.mirrored:
        pixels = pixels.flip(-1)
    if crop.gray:
        pixels = to_gray(pixels[0]).expand(1, 3, side, side)
    return normalize(pixels)


def _length(random: np.random.Generator, lowest: float, highest: float) -> int:
    return min(int(highest), round(random.uniform(lowest, highest)))
