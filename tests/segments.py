"""Convolutions over segments for the tests of their kernels: shapes, random numbers, one call."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from efficientad_ext import reference
from efficientad_ext.reference.segment_convolution import Resampling, Segment, pack_weights
from efficientad_ext.reference.winograd_convolution import weights_at_points

PACKED_BY = {"segment_convolution": pack_weights, "winograd_convolution": weights_at_points}


def half_pixel(grid, size):
    """The resampling of an input of ``grid`` to ``size``, edge to edge."""
    steps = [length / new for length, new in zip(grid, size, strict=True)]
    rows, columns = ((step, 0.5 * step - 0.5) for step in steps)
    return Resampling(size, rows, columns)


@dataclass(frozen=True)
class Shape:
    """A segment without its numbers."""

    grid: tuple[int, int]
    kernel: int
    channels: int = 64
    first_channel: int = 0
    pixel_channels: int = 64
    stride: int = 1
    padding: int = 0
    resampled_to: tuple[int, int] | None = None


@dataclass(frozen=True)
class Case:
    segments: tuple[Shape, ...]
    size: tuple[int, int]
    outputs: int = 64
    second_group: int | None = None
    epilogue: str = "relu"
    batch: int = 1

    @property
    def output_shape(self):
        height, width = self.size
        if self.epilogue == "squared_difference":
            return self.outputs // 64, self.batch, height, width
        if self.epilogue == "relu_pool":
            height, width = height // 2, width // 2
        return self.batch, height, width, self.outputs


CASES = {
    "less than a tile": Case((Shape((8, 10), 4),), (5, 7), batch=3),
    "several tiles": Case((Shape((19, 21), 2),), (18, 20), epilogue="store"),
    "one tap": Case((Shape((13, 11), 1, 128, 0, 128),), (13, 11), 128),
    "padding": Case((Shape((7, 9), 3, padding=1),), (7, 9), 128, epilogue="store", batch=3),
    "as much padding as there can be": Case((Shape((5, 4), 4, padding=3),), (8, 7)),
    "stride 2": Case((Shape((14, 17), 4, stride=2, padding=1),), (7, 8), batch=3),
    "stride 2, several tiles": Case((Shape((33, 35), 3, stride=2, padding=1),), (17, 18)),
    "stride 2, many channels": Case((Shape((34, 34), 4, stride=2, padding=1),), (17, 17), 128),
    "outputs cropped and beyond the input": Case((Shape((9, 5), 3, padding=1),), (4, 9)),
    "slice of channels": Case((Shape((6, 7), 3, 128, 64, 256),), (4, 5), 192),
    "upsampled": Case((Shape((5, 4), 4, padding=2, resampled_to=(8, 9)),), (9, 10), batch=3),
    "upsampled from one pixel": Case((Shape((1, 1), 4, padding=2, resampled_to=(3, 3)),), (4, 4)),
    "downsampled": Case((Shape((17, 19), 3, padding=1, resampled_to=(7, 8)),), (7, 8)),
    "pooled": Case((Shape((10, 12), 4),), (7, 9), 128, epilogue="relu_pool", batch=3),
    "pooled, several tiles": Case((Shape((18, 36), 2),), (17, 35), epilogue="relu_pool"),
    "two groups": Case((Shape((7, 9), 3, 64, 64, 192),), (5, 7), 192, 128, "relu"),
    "two groups pooled": Case((Shape((9, 8), 4, 64, 0, 128),), (6, 5), 128, 64, "relu_pool", 3),
    "squared difference": Case((Shape((8, 7), 4),), (5, 4), 192, None, "squared_difference", 3),
    "two kernels": Case(
        (Shape((9, 11), 4, 128, 64, 256), Shape((6, 8), 3, padding=1)),
        (6, 8),
        128,
        epilogue="squared_difference",
    ),
    "two segments of one tap": Case(
        (Shape((3, 5), 1, 128, 128, 256), Shape((3, 5), 1, 192, 0, 192)),
        (3, 5),
        384,
        epilogue="squared_difference",
        batch=3,
    ),
    "two segments, one resampled": Case(
        (Shape((6, 5), 1), Shape((3, 4), 3, padding=1, resampled_to=(6, 5))),
        (6, 5),
        epilogue="store",
    ),
}


def random_segments(case, operand):
    """Segments of ``case``; channels that are not read are NaN."""
    segments = []
    for shape in case.segments:
        groups = 1 if case.second_group is None else 2
        first, last = shape.first_channel, shape.first_channel + groups * shape.channels
        x = torch.full((case.batch, *shape.grid, shape.pixel_channels), float("nan"))
        x[..., first:last] = torch.randn(*x.shape[:3], last - first)
        taps = (shape.channels, shape.kernel, shape.kernel)
        weight = torch.randn(case.outputs, *taps) / (shape.channels * shape.kernel**2) ** 0.5
        resampled = shape.resampled_to
        segments.append(
            Segment(
                operand(x),
                operand(weight),
                first,
                shape.stride,
                shape.padding,
                None if resampled is None else half_pixel(shape.grid, resampled),
            )
        )
    return segments


def python_segment(segment):
    """A segment as the binding takes it."""
    resampling = segment.resampling
    return (
        segment.input,
        segment.first_channel,
        segment.weight.shape[1],
        segment.weight.shape[2],
        segment.stride,
        segment.padding,
        None if resampling is None else (*resampling.size, resampling.rows, resampling.columns),
    )


def run(convolutions, case, segments, bias, kernel="segment_convolution"):
    squared = case.epilogue == "squared_difference"
    output = torch.empty(
        case.output_shape,
        dtype=convolutions.summed if squared else convolutions.dtype,
        device=convolutions.device,
    )
    convolutions.run(
        kernel,
        [python_segment(segment) for segment in segments],
        convolutions.packed(PACKED_BY[kernel]([segment.weight for segment in segments])),
        bias,
        case.size,
        case.outputs if case.second_group is None else case.second_group,
        case.epilogue,
        output,
    )
    return output


def expected_of(case, segments, bias):
    exact = [
        replace(segment, input=segment.input.double(), weight=segment.weight.double())
        for segment in segments
    ]
    return reference.segment_convolution(
        exact, bias.double(), case.size, second_group=case.second_group, epilogue=case.epilogue
    )


def random_bias(convolutions, case):
    return convolutions.accumulator(torch.randn(case.outputs))
