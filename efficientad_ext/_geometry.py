"""Where features lie in the image: the coordinates behind every upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from efficientad_ext.architecture import FEATURE_STRIDE, FIRST_FEATURE_CENTRE

Alignment = Literal["half_pixel", "pixel_exact"]


def resampling_axes(
    grid: Sequence[int],
    size: Sequence[int],
    alignment: Alignment,
    input_size: Sequence[int] | None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The (step, start) of the vertical and of the horizontal axis.

    Output sample i of an axis reads coordinate ``step * i + start`` of the grid, clamped to the
    grid.

    ``half_pixel`` lays grid and output over each other edge to edge. ``pixel_exact`` puts feature i
    at pixel 16 + 4 i of the network's input of ``input_size`` (by default ``size``), over which the
    output is laid edge to edge.
    """

    def axis(grid_length: int, length: int, input_length: int) -> tuple[float, float]:
        if alignment == "half_pixel":
            step = grid_length / length
            return step, 0.5 * step - 0.5
        pixels = input_length / length
        first_pixel = 0.5 * pixels - 0.5
        return pixels / FEATURE_STRIDE, (first_pixel - FIRST_FEATURE_CENTRE) / FEATURE_STRIDE

    input_height, input_width = size if input_size is None else input_size
    return axis(grid[0], size[0], input_height), axis(grid[1], size[1], input_width)
