"""Convolution of images, bias, ReLU and 2x2 average pooling, for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional, grad

from efficientad_ext._derivatives import register_composite, register_gradient
from efficientad_ext._layout import pixels_of
from efficientad_ext._pooled_convolution import (
    check_paddings,
    check_tensors,
    convolved_size,
    pooled_size,
)
from efficientad_ext._registry import Backend, register

_COLOURS = 3
_KERNEL = 4
_TAPS = (_KERNEL, _KERNEL)
_CHANNEL_MULTIPLE = 64
_SHORT_TYPES = (torch.bfloat16, torch.float16)


def _bordered(x: Tensor, border: int) -> Tensor:
    return functional.pad(x, (border,) * 4).contiguous() if border else x.contiguous()


def _run(
    backend: Backend,
    output: Tensor,
    active: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int,
    pool_padding: int,
    _dtype: torch.dtype,
) -> None:
    if output.numel() == 0:
        return
    backend.run(
        "image_conv_relu_pool",
        x.device,
        _bordered(x, padding + pool_padding),
        pixels_of(weight),
        weight.new_zeros(weight.shape[0]) if bias is None else bias.contiguous(),
        pool_padding,
        output.permute(0, 2, 3, 1),
        active,
    )


def _forward(backend: Backend, *arguments: Any) -> Tensor:
    output = _forward_fake(*arguments)
    _run(backend, output, None, *arguments)
    return output


def _forward_fake(
    x: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    padding: int,
    pool_padding: int,
    dtype: torch.dtype,
) -> Tensor:
    height, width = pooled_size(x, _TAPS, padding, pool_padding)
    shape = (x.shape[0], height, width, weight.shape[0])
    return x.new_empty(shape, dtype=dtype).permute(0, 3, 1, 2)


def _recorded(backend: Backend, *arguments: Any) -> tuple[Tensor, Tensor]:
    """The output, and a bit for each pixel and channel that the ReLU lets pass: see the header."""
    output, active = _recorded_fake(*arguments)
    _run(backend, output, active, *arguments)
    return output, active


def _recorded_fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    output = _forward_fake(*arguments)
    batch, channels, height, width = output.shape
    shape = (batch, 2 * height, 2 * width, channels // 8)
    return output, output.new_empty(shape, dtype=torch.uint8)


def _gradient(
    backend: Backend, gradient: Tensor, x: Tensor, active: Tensor, border: int
) -> tuple[Tensor, Tensor]:
    filters, bias = _gradient_fake(gradient, x, active, border)
    if gradient.numel() == 0:
        return filters.zero_(), bias.zero_()
    backend.run(
        "image_conv_relu_pool_gradient",
        x.device,
        _bordered(x, border),
        active,
        pixels_of(gradient),
        filters.permute(0, 2, 3, 1),
        bias,
    )
    return filters, bias


def _gradient_fake(
    gradient: Tensor, x: Tensor, _active: Tensor, _border: int
) -> tuple[Tensor, Tensor]:
    outputs = gradient.shape[1]
    filters = x.new_empty((outputs, _KERNEL, _KERNEL, _COLOURS)).permute(0, 3, 1, 2)
    return filters, x.new_empty(outputs)


def _passed(gradient: Tensor, x: Tensor, active: Tensor, border: int) -> Tensor:
    """The gradient of the convolution with zeros around the image, in torch's operations."""
    places = torch.arange(8, dtype=torch.uint8, device=active.device)
    passing = ((active[..., None] >> places) & 1).flatten(-2).permute(0, 3, 1, 2)
    quarter = gradient.to(x.dtype) / 4
    spread = quarter.repeat_interleave(2, 2).repeat_interleave(2, 3)
    height, width = convolved_size(x, _TAPS, border)
    no_window = (0, width - spread.shape[3], 0, height - spread.shape[2])
    return functional.pad(torch.where(passing.bool(), spread, 0), no_window)


def _gradient_by_torch(
    gradient: Tensor, x: Tensor, active: Tensor, border: int
) -> tuple[Tensor, Tensor]:
    passed = _passed(gradient, x, active, border)
    shape = (gradient.shape[1], _COLOURS, _KERNEL, _KERNEL)
    return grad.conv2d_weight(x, shape, passed, padding=border), passed.sum((0, 2, 3))


def _save(context: Any, arguments: tuple[Any, ...], results: tuple[Tensor, Tensor]) -> None:
    x, weight, _, padding, pool_padding, _ = arguments
    context.border = padding + pool_padding
    context.mark_non_differentiable(results[1])
    context.set_materialize_grads(False)  # that of the bits, which would be as large
    context.save_for_backward(x, weight, results[1])


def _backward(context: Any, gradient: Tensor | None, _of_active: None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 6
    x, weight, active = context.saved_tensors
    border = context.border
    wants_x, wants_weight, wants_bias, *_ = context.needs_input_grad
    of_x = of_weight = of_bias = None
    if wants_weight or wants_bias:
        of_weight, of_bias = _raw_gradient(gradient, x, active, border)
    if wants_x:
        passed = _passed(gradient, x, active, border)
        of_x = grad.conv2d_input(x.shape, weight, passed, padding=border)
    return of_x, of_weight, of_bias if wants_bias else None, None, None, None


_ARGUMENTS = (
    "(Tensor x, Tensor weight, Tensor? bias, int padding, int pool_padding, ScalarType dtype)"
)
_raw = register(f"image_conv_relu_pool{_ARGUMENTS} -> Tensor", _forward, _forward_fake)
_raw_recorded = register(
    f"image_conv_relu_pool_recorded{_ARGUMENTS} -> (Tensor, Tensor)", _recorded, _recorded_fake
)
_raw_gradient = register(
    "image_conv_relu_pool_gradient(Tensor gradient, Tensor x, Tensor active, int border) "
    "-> (Tensor, Tensor)",
    _gradient,
    _gradient_fake,
)
register_composite(_raw_gradient, _gradient_by_torch)
register_gradient(_raw_recorded, _save, _backward)
_call = register_composite(_raw, lambda *arguments: _raw_recorded(*arguments)[0])


def can_be_of_images(x: Tensor, weight: Tensor) -> bool:
    """Whether `image_conv_relu_pool` computes this convolution: see there."""
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.shape[1] == _COLOURS
        and tuple(weight.shape[1:]) == (_COLOURS, _KERNEL, _KERNEL)
        and weight.shape[0] % _CHANNEL_MULTIPLE == 0
    )


def image_conv_relu_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int = 0,
    pool_padding: int = 0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Stride-1 convolution of images, bias, ReLU, and 2x2 average pooling with stride 2.

    The first stage of a patch description network (EfficientAD, appendix A) in training on a CPU,
    in one pass: of what the convolution gives, one bit is kept, whether it passes the ReLU, and the
    gradients of weight and bias are computed from that and the image. Differentiable any number of
    times: by these kernels, or, where a graph of the gradients is recorded or that of the image is
    wanted, by torch's operations. The kernels give the same bits with any number of threads.
    :func:`efficientad_ext.ops.conv_relu_pool` is the same for any number of channels.

    Args:
        x: (N, 3, H, W) in the CPU's memory, float64, float32, float16 or bfloat16.
        weight: (O, 3, 4, 4), same type, O a multiple of 64.
        bias: (O,), same type, or None.
        padding: zeros around ``x``, on every side.
        pool_padding: 0, or 1 for a border of zeros around the activation; they count in the
            average.
        dtype: of the result, by default that of ``x``; for ``x`` in float32 also bfloat16 or
            float16. The weight is rounded to it. So is the image where the processor multiplies
            that type: by handing on to a pixel's neighbour what rounding takes from it, and for the
            gradients to nearest. Sums are formed in float32, or in float64 for that.

    Returns:
        (N, O, h, w) with h = (H + 2 padding - 3 + 2 pool_padding) // 2 and w likewise,
        channels-last.

    Raises:
        TypeError: for other element types, or a padding that is no whole number.
        ValueError: for tensors elsewhere, other shapes, another padding, or an image smaller than
            the kernel and a pooling window.
    """
    check_tensors(x, weight, bias)
    if not can_be_of_images(x, weight):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, weight has shape {tuple(weight.shape)}, and they are "
            f"on {x.device}; expected (N, 3, H, W) and (O, 3, 4, 4) on the CPU, O a multiple of "
            f"{_CHANNEL_MULTIPLE}"
        )
    dtype = x.dtype if dtype is None else dtype
    if dtype != x.dtype and not (dtype in _SHORT_TYPES and x.dtype == torch.float32):
        raise TypeError(f"dtype is {dtype}; expected {x.dtype}, or a shorter type for float32")
    padding, pool_padding = check_paddings(x, weight, padding, pool_padding)
    summed = torch.promote_types(x.dtype, torch.float32)
    bias = None if bias is None else bias.to(summed)
    return _call(x.to(summed), weight.to(summed), bias, padding, pool_padding, dtype)
