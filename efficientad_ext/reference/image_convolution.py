"""Plain-torch reference of the kernel of csrc/include/efficientad/image_convolution.h."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def image_convolution(image: Tensor, weight: Tensor, bias: Tensor, *, pooled: bool) -> Tensor:
    """A 4x4 convolution of images with a fourth channel of ones, bias and ReLU.

    Args:
        image: (N, 3, height, width), computed in its type.
        weight: (output channels, 4, 4, 4), the second dimension red, green, blue and one.
        bias: (output channels,).
        pooled: True for stride 1 without padding, then 2x2 average pooling; False for stride 2 with
            one pixel of padding, where the fourth channel is zero, too.

    Returns:
        (N, output height, output width, output channels).
    """
    x = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)
    if pooled:
        activation = functional.relu(functional.conv2d(x, weight, bias))
        result = functional.avg_pool2d(activation, 2)
    else:
        result = functional.relu(functional.conv2d(x, weight, bias, stride=2, padding=1))
    return result.permute(0, 2, 3, 1)


def pack_weight(weight: Tensor) -> Tensor:
    """(output channels, channel, row, column) as the kernel reads it: the channel last."""
    return weight.permute(0, 2, 3, 1).contiguous()
