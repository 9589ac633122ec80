"""Bringing feature maps into a layout that the kernels read in place.

Kernels take planes (NCHW, or a slice of its channels) and channels-last (NHWC, or a slice of its
channels), with the rows of a map following each other without a gap.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_planes(tensor: Tensor) -> bool:
    """Whether each channel of (N, C, H, W) is one contiguous plane."""
    if tensor.is_contiguous():
        return True
    _, channels, height, width = tensor.shape
    _, channel_stride, row_stride, column_stride = tensor.stride()
    if height * width == 1 and channels > 1 and channel_stride != 1:
        return False
    return (width == 1 or column_stride == 1) and (height == 1 or row_stride == width)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether each pixel's channels follow each other in (N, C, H, W), pixels evenly spaced.

    False for a single channel or pixel, which has both layouts and is taken for planes.
    """
    _, channels, height, width = tensor.shape
    _, channel_stride, row_stride, column_stride = tensor.stride()
    return (
        channel_stride == 1
        and channels > 1
        and height * width > 1
        and (row_stride == width * column_stride or height == 1 or width == 1)
    )


def for_kernels(tensor: Tensor) -> Tensor:
    """The tensor itself where its layout suits the kernels, else a contiguous copy."""
    return tensor if is_planes(tensor) or is_channels_last(tensor) else tensor.contiguous()


def alike_for_kernels(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors of one shape in one layout that suits the kernels, copied only where needed."""
    if is_channels_last(a):
        return a, b if is_channels_last(b) else b.contiguous(memory_format=torch.channels_last)
    if is_planes(a) and is_planes(b):
        return a, b
    if is_channels_last(b):
        return a.contiguous(memory_format=torch.channels_last), b
    return a.contiguous(), b.contiguous()


def pixels_of(tensor: Tensor) -> Tensor:
    """(N, C, H, W) as convolutions' kernels read it: (N, H, W, C), contiguous."""
    return tensor.permute(0, 2, 3, 1).contiguous()


def empty_like_layout(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An uninitialised tensor of another shape in the layout of ``tensor``."""
    channels_last = not is_planes(tensor)
    return torch.empty(
        shape,
        dtype=tensor.dtype,
        device=tensor.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
