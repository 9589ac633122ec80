"""Plain-torch reference of the kernel of csrc/include/efficientad/segment_convolution.h."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext.reference.upsample_bilinear import interpolation_matrix

Epilogue = Literal["store", "relu", "relu_pool", "squared_difference"]

PLANE_CHANNELS = 64
"""Channels whose squares one plane of squared differences adds up."""

BLOCK_BYTES = 128
"""Bytes of a pixel's channels in one block of a packed row of weights."""


@dataclass(frozen=True)
class Resampling:
    """A bilinear resampling to ``size``, (height, width), along two axes of (step, start)."""

    size: tuple[int, int]
    rows: tuple[float, float]
    columns: tuple[float, float]


@dataclass(frozen=True)
class Segment:
    """One summand: a convolution over channels-last feature maps.

    Args:
        input: (N, height, width, pixel channels).
        weight: (output channels, channels, kernel, kernel).
        first_channel: the first of the ``channels`` that are read.
        stride: 1 or 2.
        padding: zeros above and to the left; below and to the right there are as many as are read.
        resampling: what the input goes through before the convolution, if anything.
    """

    input: Tensor
    weight: Tensor
    first_channel: int = 0
    stride: int = 1
    padding: int = 0
    resampling: Resampling | None = None

    def convolve(self, size: tuple[int, int], group: int, outputs: slice) -> Tensor:
        """The summand of some output channels, (N, output channels, *size)."""
        weight = self.weight[outputs]
        first = self.first_channel + group * weight.shape[1]
        x = self.input[..., first : first + weight.shape[1]].permute(0, 3, 1, 2)
        if self.resampling is not None:
            height, width = self.resampling.size
            rows = interpolation_matrix(x.shape[2], height, *self.resampling.rows).to(x)
            columns = interpolation_matrix(x.shape[3], width, *self.resampling.columns).to(x)
            x = rows @ x @ columns.T
        below, right = (
            (length - 1) * self.stride + weight.shape[2] - self.padding - seen
            for length, seen in zip(size, x.shape[2:], strict=True)
        )
        # A negative padding crops what no output reads.
        x = functional.pad(x, (self.padding, right, self.padding, below))
        return functional.conv2d(x, weight, stride=self.stride)


def segment_convolution(
    segments: Sequence[Segment],
    bias: Tensor,
    size: tuple[int, int],
    *,
    second_group: int | None = None,
    epilogue: Epilogue = "store",
) -> Tensor:
    """The sum of the segments' convolutions and a bias, and what is done with it.

    Args:
        segments: the summands.
        bias: (output channels,).
        size: (height, width) of the convolutions' output.
        second_group: the first output channel that reads the channels behind those that the others
            read, or None.
        epilogue: "store" the sum, "relu" max(sum, 0), "relu_pool" its average over 2x2 windows, or
            "squared_difference" the squares, in planes of `PLANE_CHANNELS` channels whose sum is
            the mean over all channels.

    Returns:
        (N, height, width, output channels), height and width halved by "relu_pool"; for
        "squared_difference" (planes, N, height, width).
    """
    outputs = bias.shape[0]
    boundary = outputs if second_group is None else second_group
    groups = [slice(0, boundary)] + ([slice(boundary, outputs)] if boundary < outputs else [])
    total = torch.cat(
        [
            torch.stack([segment.convolve(size, index, group) for segment in segments]).sum(0)
            for index, group in enumerate(groups)
        ],
        dim=1,
    ) + bias.view(-1, 1, 1)
    if epilogue == "squared_difference":
        planes = total.square().unflatten(1, (-1, PLANE_CHANNELS)).sum(2) / outputs
        return planes.transpose(0, 1)
    if epilogue != "store":
        total = functional.relu(total)
    if epilogue == "relu_pool":
        total = functional.avg_pool2d(total, 2)
    return total.permute(0, 2, 3, 1)


def pack_weights(weights: Sequence[Tensor]) -> Tensor:
    """The segments' weights in the order of the kernel's reduction.

    Args:
        weights: (output channels, channels, kernel, kernel) for each segment, of one type.

    Returns:
        (output channels, K), contiguous: K runs over segments, blocks of `BLOCK_BYTES` of channels,
        tap columns, tap rows, and channels of the block, the last fastest.
    """
    block = BLOCK_BYTES // weights[0].element_size()
    rows = [
        # output, block, channel, row, column -> output, block, column, row, channel
        weight.unflatten(1, (-1, block)).permute(0, 1, 4, 3, 2).flatten(1)
        for weight in weights
    ]
    return torch.cat(rows, dim=1).contiguous()


def in_panels(rows: Tensor, layout: tuple[int, int]) -> Tensor:
    """A matrix of weights in a backend's order, see csrc/include/efficientad/weight_layout.h.

    Args:
        rows: (output channels, K).
        layout: (panel, interleave).

    Returns:
        The same numbers, [output channels / panel, K / interleave, panel, interleave], in the shape
        of ``rows``.
    """
    panel, interleave = layout
    parts = rows.unflatten(0, (-1, panel)).unflatten(2, (-1, interleave))
    return parts.permute(0, 2, 1, 3).reshape(rows.shape)
