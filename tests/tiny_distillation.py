"""A distillation that takes a second, for the tests of the parts of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from efficientad.distillation import DistillationConfig
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

TINY = DistillationConfig(steps=4, batch_size=2, seed=3, precision="float32")


class TinyBackbone(nn.Module):
    """Two levels of a few random filters each; the last channel of the first is dead."""

    channels = (192, 200)

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        fine = torch.randn(192, 3, 8, 8, generator=random) / 8
        fine[-1] = 0
        self.register_buffer("fine", fine)
        self.register_buffer("coarse", torch.randn(200, 3, 16, 16, generator=random) / 16)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return (
            functional.conv2d(images, self.fine, stride=8),
            functional.conv2d(images, self.coarse, stride=16),
        )


def write_photos(folder: Path, count: int, side: tuple[int, int] = (140, 170)) -> list[Path]:
    """Smooth random photos, whose neighbouring pixels are alike."""
    random = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        pixels = Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8))
        paths.append(folder / f"{index:02}.png")
        pixels.resize(side[::-1], Image.Resampling.BICUBIC).save(paths[-1])
    return paths
