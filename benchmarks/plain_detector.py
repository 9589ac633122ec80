"""The detection as a user of torch would write it: what the benchmarks compare with."""

from __future__ import annotations

from typing import Any

import torch
from efficientad.convolution import Convolution, ConvReLUPool
from efficientad.networks import Networks
from torch import Tensor, nn
from torch.nn import functional

from efficientad_ext import reference
from efficientad_ext.architecture import Upsample, autoencoder_layers, feature_grid
from efficientad_ext.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN

QUANTILES = (0.5, 1.5, 0.5, 1.5)


def _by_torch(module: nn.Module) -> nn.Module:
    """A layer as torch has it, on the same parameters."""
    if not isinstance(module, Convolution):
        return module
    stride, padding = module.stride[0], int(module.padding[0])
    plain = nn.Conv2d(
        module.in_channels, module.out_channels, module.kernel_size[0], stride, padding
    )
    plain.weight, plain.bias = module.weight, module.bias
    if isinstance(module, ConvReLUPool):
        return nn.Sequential(plain, nn.ReLU(), nn.AvgPool2d(2))
    return plain


class PlainDetector(nn.Module):
    """From bytes to map and score by torch's operations, channels-last.

    Args:
        networks: what to run; they are converted in place.
        size: (height, width) of the networks' input and of the map.
        dtype: what to compute in. The maps are combined in float32, or in float64 where that is it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, networks: Networks, size: tuple[int, int], dtype: torch.dtype) -> None:
        super().__init__()
        self.size, self.dtype = size, dtype
        self.combined = torch.promote_types(dtype, torch.float32)
        self.teacher = nn.Sequential(*map(_by_torch, networks.teacher))
        self.student = nn.Sequential(*map(_by_torch, networks.student))
        tables = autoencoder_layers(feature_grid(*size))
        self.autoencoder = nn.Sequential(
            *(
                nn.Upsample(layer.size, mode="bilinear")
                if isinstance(layer, Upsample)
                else _by_torch(module)
                for layer, module in zip(tables, networks.autoencoder, strict=True)
            )
        )
        for name, values in (
            ("mean", networks.teacher_mean.new_tensor(IMAGENET_MEAN)),
            ("deviation", networks.teacher_mean.new_tensor(IMAGENET_DEVIATION)),
            ("teacher_mean", networks.teacher_mean),
            ("teacher_deviation", networks.teacher_deviation),
        ):
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)
        to_form: dict[str, Any] = {"dtype": dtype, "memory_format": torch.channels_last}
        self.to(**to_form).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 1, height, width) and score (N,) of uint8 images (N, H, W, 3) of any size."""
        pixels = images.movedim(-1, 1)
        if tuple(pixels.shape[2:]) != self.size:
            pixels = functional.interpolate(
                pixels.float(), self.size, mode="bilinear", antialias=True
            )
        x = (pixels.to(self.dtype) / 255 - self.mean) / self.deviation
        x = x.contiguous(memory_format=torch.channels_last)
        teacher = (self.teacher(x) - self.teacher_mean) / self.teacher_deviation
        student, autoencoder = self.student(x), self.autoencoder(x)
        local_map = (teacher - student[:, :384]).square().mean(dim=1, keepdim=True)
        global_map = (autoencoder - student[:, 384:]).square().mean(dim=1, keepdim=True)
        return reference.normalize_and_combine(
            local_map.to(self.combined), global_map.to(self.combined), QUANTILES, self.size
        )
