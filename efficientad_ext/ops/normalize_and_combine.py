"""From the local and the global map to the anomaly map and the image score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from efficientad_ext._checks import check_same_feature_maps, check_size
from efficientad_ext._derivatives import register_gradient
from efficientad_ext._geometry import resampling_axes
from efficientad_ext._registry import Backend, register
from efficientad_ext.ops.upsample_bilinear import upsample_gradient

_Axis = tuple[float, float]


def _implementation(
    backend: Backend,
    local_map: Tensor,
    global_map: Tensor,
    quantiles: Sequence[float],
    height: int,
    width: int,
    rows: _Axis,
    columns: _Axis,
) -> tuple[Tensor, Tensor]:
    output, score = _fake(local_map, global_map, quantiles, height, width, rows, columns)
    if output.numel() > 0:
        backend.run(
            "normalize_and_combine",
            local_map.device,
            local_map.contiguous().transpose(0, 1),  # one plane, (1, N, h, w)
            global_map.contiguous().transpose(0, 1),
            (quantiles[0], quantiles[1]),
            (quantiles[2], quantiles[3]),
            tuple(rows),
            tuple(columns),
            output,
            score,
        )
    return output, score


def _fake(
    local_map: Tensor,
    global_map: Tensor,
    quantiles: Sequence[float],
    height: int,
    width: int,
    rows: _Axis,
    columns: _Axis,
) -> tuple[Tensor, Tensor]:
    batch = local_map.shape[0]
    score_type = torch.float64 if local_map.dtype == torch.float64 else torch.float32
    return (
        local_map.new_empty((batch, 1, height, width)),
        local_map.new_empty((batch,), dtype=score_type),
    )


_raw = register(
    "normalize_and_combine(Tensor local_map, Tensor global_map, float[] quantiles, SymInt height, "
    "SymInt width, float[] rows, float[] columns) -> (Tensor, Tensor)",
    _implementation,
    _fake,
)


def _save(context: Any, arguments: tuple[Any, ...], _results: tuple[Tensor, Tensor]) -> None:
    local_map, global_map, context.quantiles, _, _, *context.axes = arguments
    context.save_for_backward(local_map, global_map)


def _backward(
    context: Any, map_gradient: Tensor, score_gradient: Tensor
) -> tuple[Tensor | None, ...]:
    local_map, global_map = context.saved_tensors
    local_a, local_b, global_a, global_b = context.quantiles
    local_scale, global_scale = 0.05 / (local_b - local_a), 0.05 / (global_b - global_a)
    combined = (local_map - local_a) * local_scale + (global_map - global_a) * global_scale
    # Equal maxima share the score's gradient, as for torch.amax.
    highest = combined == combined.amax(dim=(1, 2, 3), keepdim=True)
    share = score_gradient.view(-1, 1, 1, 1) / highest.sum(dim=(1, 2, 3), keepdim=True)
    gradient = upsample_gradient(map_gradient, *local_map.shape[2:], *context.axes)
    gradient = gradient + (highest * share).to(gradient)
    return gradient * local_scale, gradient * global_scale, None, None, None, None, None


_call = register_gradient(_raw, _save, _backward)


def _check_quantiles(quantiles: Sequence[float] | Tensor) -> tuple[float, ...]:
    values = tuple(float(value) for value in quantiles)
    if len(values) != 4 or not all(-math.inf < value < math.inf for value in values):
        raise ValueError(
            f"quantiles is {values}; expected four numbers: local a, local b, global a, global b"
        )
    for name, a, b in (("local", *values[:2]), ("global", *values[2:])):
        if not b > a:
            raise ValueError(
                f"the {name} map's quantiles are {a} and {b}; expected the second one to be larger "
                "(equal quantiles mean that the map was constant over the calibration images)"
            )
    return values


def normalize_and_combine(
    local_map: Tensor,
    global_map: Tensor,
    quantiles: Sequence[float] | Tensor,
    size: tuple[int, int],
    *,
    input_size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Calibrate both maps, average them, upsample the average, and take the image score.

    EfficientAD, section 3.4: each map is mapped linearly so that its quantile a becomes 0 and its
    quantile b becomes 0.1; the combined map is their mean. Upsampling is pixel-exact: feature (i,
    j) lies at pixel (16 + 4i, 16 + 4j) of the network's input, and outside the outermost centres
    the edge value is kept.

    Args:
        local_map: (N, 1, h, w) on the feature grid, float64, float32, float16 or bfloat16.
        global_map: of the same shape, type and device.
        quantiles: local a, local b, global a, global b, with a < b. A tensor is copied to the host.
        size: (height, width) of the resulting map, in pixels.
        input_size: (height, width) of the network's input where it differs from ``size``; the
            result is then laid over it edge to edge.

    Returns:
        The combined map, (N, 1, *size), in the type of the maps, and the image scores, (N,): the
        maximum of the combined map on the feature grid, float64 for float64 maps, else float32. At
        ``size`` equal to the network's input size that is also the maximum of the returned map. A
        NaN in the maps gives a NaN score.

    Raises:
        TypeError: for other element types, or two different ones.
        ValueError: for other or different shapes, maps without pixels, quantiles that do not
            ascend, or a size that is not positive.
    """
    check_same_feature_maps("local_map", local_map, "global_map", global_map)
    if local_map.shape[1] != 1 or local_map.shape[2:].numel() == 0:
        raise ValueError(
            f"local_map has shape {tuple(local_map.shape)}; expected (N, 1, h, w) with at least "
            "one pixel"
        )
    values = _check_quantiles(quantiles)
    size = check_size("size", size)
    input_size = size if input_size is None else check_size("input_size", input_size)
    rows, columns = resampling_axes(local_map.shape[-2:], size, "pixel_exact", input_size)
    return _call(local_map, global_map, values, *size, rows, columns)
