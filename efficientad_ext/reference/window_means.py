"""Plain-torch reference of the kernel of csrc/include/efficientad/window_means.h."""

from __future__ import annotations

import torch
from torch import Tensor


def window_means(x: Tensor, first_channel: int, channels: int, kernel: int) -> Tensor:
    """The mean of the window that each tap of an unpadded convolution sees.

    Args:
        x: (N, height, width, pixel channels).
        first_channel: the first of the channels that are read.
        channels: how many are read.
        kernel: taps along either axis.

    Returns:
        (N, tap columns, tap rows, channels).
    """
    height, width = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1
    read = x[..., first_channel : first_channel + channels]
    means = [
        read[:, row : row + height, column : column + width].mean((1, 2))
        for column in range(kernel)
        for row in range(kernel)
    ]
    return torch.stack(means, dim=1).unflatten(1, (kernel, kernel))
