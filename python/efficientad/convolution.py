"""The convolutions of trainings and distillations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientad_ext import build_config, ops
from efficientad_ext.ops.bfloat16_convolution import can_be_bfloat16
from efficientad_ext.ops.image_conv_relu_pool import can_be_of_images
from efficientad_ext.ops.winograd_convolution import can_be_winograd

# AMX, without which torch's convolutions in bfloat16 are faster.
_HAS_TILES = build_config()["cpu_instruction_set"].startswith("amx")


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0
) -> Tensor:
    """Torch's convolution; on a CPU, where it can be and is faster, one of this package.

    Args: those of ``torch.nn.functional.conv2d``.
    """
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        if can_be_winograd(x, weight, stride=stride):
            return ops.winograd_convolution(x, weight, bias, padding=padding)
    elif _HAS_TILES and device == "cpu" and torch.get_autocast_dtype(device) == torch.bfloat16:
        rounded = x.bfloat16()
        if can_be_bfloat16(rounded, weight, stride=stride):
            return ops.bfloat16_convolution(rounded, weight, bias, padding=padding)
    return functional.conv2d(x, weight, bias, stride, padding)


def conv_relu_pool(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 0, pool_padding: int = 0
) -> Tensor:
    """`convolution` of stride 1, ReLU and 2x2 average pooling; in one op where a CPU can.

    That is on images, for 4x4 taps, where no gradient of the images is wanted.

    Args: those of ``efficientad_ext.ops.conv_relu_pool``.
    """
    if (
        can_be_of_images(x, weight)
        and not x.requires_grad
        and (bias is None or bias.dtype == x.dtype)
    ):
        autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        if autocast is None or (autocast == torch.bfloat16 and x.dtype == torch.float32):
            return ops.image_conv_relu_pool(
                x, weight, bias, padding=padding, pool_padding=pool_padding, dtype=autocast
            )
    return ops.relu_pool(convolution(x, weight, bias, padding=padding), pool_padding=pool_padding)


class Convolution(nn.Conv2d):
    """A layer of `convolution`, as many pixels of padding along either axis."""

    def reset_parameters(self) -> None:
        """Nothing yet, since torch would draw from its global generator; see `initialize`."""

    @torch.no_grad()
    def initialize(self, random: torch.Generator | None) -> None:
        """Draws torch's default random weights from a generator; None for the global one."""
        assert self.bias is not None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=random)
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.bias, -bound, bound, generator=random)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, h, w)."""
        assert isinstance(self.padding, tuple)
        return convolution(features, self.weight, self.bias, self.stride[0], self.padding[0])


class ConvReLUPool(Convolution):
    """The layer, of stride 1, with the ReLU and the pool behind it, `conv_relu_pool`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, padding: int, pool_padding: int
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=padding)
        self._paddings = padding, pool_padding

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, h, w)."""
        return conv_relu_pool(features, self.weight, self.bias, *self._paddings)
