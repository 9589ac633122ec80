"""Convolutions in float32 by Winograd's minimal filtering, for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import grad

from efficientad_ext._checks import check_feature_maps, check_whole
from efficientad_ext._derivatives import register_composite, register_gradient
from efficientad_ext._registry import Backend, register

_POINTS = 36
_CHANNEL_MULTIPLE = 64
_TYPES = (torch.float32, torch.float64)


def _last(tensor: Tensor) -> Tensor:
    """(N, C, H, W) as the kernels read it: (N, H, W, C), contiguous."""
    return tensor.permute(0, 2, 3, 1).contiguous()


def _empty_last(tensor: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Channels-last whatever its shape: (N, H, W, C) memory seen as ``shape``, (N, C, H, W)."""
    batch, channels, height, width = shape
    return tensor.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)


def _output_shape(x: Tensor, weight: Tensor, padding: int) -> tuple[int, int, int, int]:
    height, width = (length + 2 * padding - weight.shape[2] + 1 for length in x.shape[2:])
    return x.shape[0], weight.shape[0], height, width


def _convolve(
    backend: Backend,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int,
    output: Tensor,
    transposed: bool = False,
) -> Tensor:
    """Writes the convolution, or that which is transposed to it, to ``output``."""
    if output.numel() == 0:
        return output
    outputs = output.shape[1]
    panels = weight.new_empty((outputs, weight.shape[0] * weight.shape[1] // outputs * _POINTS))
    backend.run("winograd_weights", x.device, _last(weight), transposed, panels)
    backend.run(
        "winograd_convolution",
        x.device,
        [(_last(x), 0, x.shape[1], weight.shape[2], 1, padding, None)],
        panels,
        weight.new_zeros(outputs) if bias is None else bias.contiguous(),
        tuple(output.shape[2:]),
        outputs,
        "store",
        output.permute(0, 2, 3, 1),
    )
    return output


def _forward(
    backend: Backend, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int
) -> Tensor:
    return _convolve(backend, x, weight, bias, padding, _forward_fake(x, weight, bias, padding))


def _forward_fake(x: Tensor, weight: Tensor, _bias: Tensor | None, padding: int) -> Tensor:
    return _empty_last(x, _output_shape(x, weight, padding))


def _input_gradient(
    backend: Backend, gradient: Tensor, weight: Tensor, size: list[int], padding: int
) -> Tensor:
    output = _input_gradient_fake(gradient, weight, size, padding)
    around = weight.shape[2] - 1 - padding
    return _convolve(backend, gradient, weight, None, around, output, transposed=True)


def _input_gradient_fake(
    gradient: Tensor, weight: Tensor, size: list[int], _padding: int
) -> Tensor:
    return _empty_last(gradient, (gradient.shape[0], weight.shape[1], size[0], size[1]))


def _weight_gradient(
    backend: Backend, gradient: Tensor, x: Tensor, kernel: int, padding: int
) -> Tensor:
    output = _weight_gradient_fake(gradient, x, kernel, padding)
    if gradient.numel() == 0:
        return output.zero_()
    backend.run(
        "winograd_filter_gradient",
        x.device,
        _last(x),
        _last(gradient),
        padding,
        output.permute(0, 2, 3, 1),
    )
    return output


def _weight_gradient_fake(gradient: Tensor, x: Tensor, kernel: int, _padding: int) -> Tensor:
    return _empty_last(x, (gradient.shape[1], x.shape[1], kernel, kernel))


_raw_forward = register(
    "winograd_convolution(Tensor x, Tensor weight, Tensor? bias, int padding) -> Tensor",
    _forward,
    _forward_fake,
)
_raw_input_gradient = register(
    "winograd_convolution_input_gradient"
    "(Tensor gradient, Tensor weight, int[] size, int padding) -> Tensor",
    _input_gradient,
    _input_gradient_fake,
)
_raw_weight_gradient = register(
    "winograd_convolution_weight_gradient"
    "(Tensor gradient, Tensor x, int kernel, int padding) -> Tensor",
    _weight_gradient,
    _weight_gradient_fake,
)


def _save(
    context: Any, arguments: tuple[Tensor, Tensor, Tensor | None, int], _result: Tensor
) -> None:
    x, weight, _, context.padding = arguments
    context.save_for_backward(x, weight)


def _backward(
    context: Any, gradient: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
    x, weight = context.saved_tensors
    padding = context.padding
    wants_x, wants_weight, wants_bias, _ = context.needs_input_grad
    size = list(x.shape[2:])
    return (
        _raw_input_gradient(gradient, weight, size, padding) if wants_x else None,
        _raw_weight_gradient(gradient, x, weight.shape[2], padding) if wants_weight else None,
        gradient.sum((0, 2, 3)) if wants_bias else None,
        None,
    )


def _input_gradient_by_torch(
    gradient: Tensor, weight: Tensor, size: list[int], padding: int
) -> Tensor:
    shape = (gradient.shape[0], weight.shape[1], *size)
    return grad.conv2d_input(shape, weight, gradient, padding=padding)


def _weight_gradient_by_torch(gradient: Tensor, x: Tensor, kernel: int, padding: int) -> Tensor:
    shape = (gradient.shape[1], x.shape[1], kernel, kernel)
    return grad.conv2d_weight(x, shape, gradient, padding=padding)


_call = register_gradient(_raw_forward, _save, _backward)
register_composite(_raw_input_gradient, _input_gradient_by_torch)
register_composite(_raw_weight_gradient, _weight_gradient_by_torch)


def can_be_winograd(x: Tensor, weight: Tensor, *, stride: int = 1) -> bool:
    """Whether `winograd_convolution` computes this convolution: see there."""
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in _TYPES
        and stride == 1
        and weight.shape[2] == weight.shape[3]
        and weight.shape[2] in (3, 4)
        and weight.shape[0] % _CHANNEL_MULTIPLE == 0
        and weight.shape[1] % _CHANNEL_MULTIPLE == 0
    )


def winograd_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: int = 0
) -> Tensor:
    """A convolution of stride 1 with a quarter of the multiplications.

    Winograd's minimal filtering (Lavin and Gray, CVPR 2016) on tiles of 6x6 inputs, forward and
    backward: for the convolutions of the patch description networks and of the autoencoder
    (EfficientAD, appendix A) in training on a CPU. Differentiable any number of times, the first
    time by these kernels. The same bits with any number of threads.

    Args:
        x: (N, C, H, W) in the CPU's memory, float32 or float64. Channels-last is read in place.
        weight: (O, C, K, K) of the same type, K 3 or 4, C and O multiples of 64. Channels-last is
            read in place.
        bias: (O,) of the same type, or None.
        padding: zeros around ``x``, less than K.

    Returns:
        (N, O, H + 2 padding - K + 1, W + 2 padding - K + 1), channels-last. A NaN in ``x`` shows
        in outputs up to five pixels away, and where a sum of products is zero in exact numbers, a
        rounding of its neighbours may be left.

    Raises:
        TypeError: for another element type, or a padding that is no whole number.
        ValueError: for tensors elsewhere, other shapes, a bias of another type or another padding.
    """
    check_feature_maps("x", x)
    kernel = weight.shape[2] if weight.dim() == 4 else 0
    if x.dtype not in _TYPES or weight.dtype != x.dtype:
        raise TypeError(
            f"x is of {x.dtype} and weight of {weight.dtype}; expected both of float32 or float64"
        )
    if weight.dim() != 4 or not can_be_winograd(x, weight):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} and is on {weight.device}; expected "
            "(O, C, K, K) on the CPU, K 3 or 4, O and C multiples of 64"
        )
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"weight is for {weight.shape[1]} channels, but x has {x.shape[1]}")
    if bias is not None and (tuple(bias.shape) != (weight.shape[0],) or bias.dtype != x.dtype):
        raise ValueError(
            f"bias has shape {tuple(bias.shape)} and element type {bias.dtype}; expected "
            f"({weight.shape[0]},) and {x.dtype}"
        )
    padding = check_whole("padding", padding)
    if not 0 <= padding < kernel:
        raise ValueError(f"padding is {padding}; expected 0 to {kernel - 1}")
    if min(_output_shape(x, weight, padding)[2:]) < 1:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, smaller than the kernel {kernel}x{kernel} with a "
            f"padding of {padding}"
        )
    return _call(x, weight, bias, padding)
