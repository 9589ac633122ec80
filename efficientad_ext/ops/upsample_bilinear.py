"""Bilinear resampling of feature maps."""

from __future__ import annotations

from typing import Any, get_args

from torch import Tensor

from efficientad_ext._checks import check_feature_maps, check_size
from efficientad_ext._derivatives import register_gradient
from efficientad_ext._geometry import Alignment, resampling_axes
from efficientad_ext._layout import empty_like_layout, for_kernels
from efficientad_ext._registry import Backend, register

_Axis = tuple[float, float]


def _forward(
    backend: Backend, x: Tensor, height: int, width: int, rows: _Axis, columns: _Axis
) -> Tensor:
    x = for_kernels(x)
    output = empty_like_layout(x, (*x.shape[:2], height, width))
    if output.numel() > 0:
        backend.run("upsample_bilinear", x.device, x, tuple(rows), tuple(columns), output)
    return output


def _forward_fake(x: Tensor, height: int, width: int, rows: _Axis, columns: _Axis) -> Tensor:
    return empty_like_layout(for_kernels(x), (*x.shape[:2], height, width))


def _gradient(
    backend: Backend, gradient: Tensor, height: int, width: int, rows: _Axis, columns: _Axis
) -> Tensor:
    gradient = for_kernels(gradient)
    output = empty_like_layout(gradient, (*gradient.shape[:2], height, width))
    if output.numel() > 0:
        backend.run(
            "upsample_bilinear_gradient",
            gradient.device,
            gradient,
            tuple(rows),
            tuple(columns),
            output,
        )
    return output


_ARGUMENTS = "SymInt height, SymInt width, float[] rows, float[] columns"
_raw = register(f"upsample_bilinear(Tensor x, {_ARGUMENTS}) -> Tensor", _forward, _forward_fake)
upsample_gradient = register(
    f"upsample_bilinear_gradient(Tensor gradient, {_ARGUMENTS}) -> Tensor", _gradient, _forward_fake
)


def _save(context: Any, arguments: tuple[Any, ...], _result: Tensor) -> None:
    x, _, _, *context.axes = arguments
    context.size = x.shape[-2:]


def _backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    return upsample_gradient(gradient, *context.size, *context.axes), None, None, None, None


def _backward_of_gradient(context: Any, x: Tensor) -> tuple[Tensor, None, None, None, None]:
    """The gradient is the transpose of a linear map; its own gradient is the map again."""
    return _raw(x, *context.size, *context.axes), None, None, None, None


_call = register_gradient(_raw, _save, _backward)
register_gradient(upsample_gradient, _save, _backward_of_gradient)


def upsample_bilinear(
    x: Tensor,
    size: tuple[int, int],
    *,
    alignment: Alignment = "half_pixel",
    input_size: tuple[int, int] | None = None,
) -> Tensor:
    """Bilinear resampling of feature maps to another size, differentiable any number of times.

    Args:
        x: feature maps, (N, C, H, W), float64, float32, float16 or bfloat16, with at least one
            pixel. Contiguous, channels-last and channel-sliced tensors are read in place.
        size: (height, width) of the result.
        alignment: ``"half_pixel"`` lays both grids over each other edge to edge, as torch's
            ``interpolate(..., align_corners=False)`` does (the autoencoder's decoder, EfficientAD,
            appendix A). ``"pixel_exact"`` takes ``x`` for a PDN's unpadded output and puts feature
            (i, j) where the centre of its receptive field is, at pixel (16 + 4i, 16 + 4j) of the
            network's input; outside the outermost centres the edge value is kept.
        input_size: (height, width) of the network's input, for ``"pixel_exact"`` where it differs
            from ``size``: the result is then laid over the input edge to edge.

    Returns:
        (N, C, *size), in the type and the memory format of ``x``.

    Raises:
        TypeError: for another element type.
        ValueError: for another shape, a size that is not positive, or an unknown alignment.
    """
    check_feature_maps("x", x)
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}, without any pixel to interpolate")
    height, width = check_size("size", size)
    if alignment not in get_args(Alignment):
        raise ValueError(f"alignment is {alignment!r}; expected 'half_pixel' or 'pixel_exact'")
    if input_size is not None:
        if alignment == "half_pixel":
            raise ValueError("input_size goes with alignment='pixel_exact' only")
        input_size = check_size("input_size", input_size)
    rows, columns = resampling_axes(x.shape[-2:], (height, width), alignment, input_size)
    return _call(x, height, width, rows, columns)
