"""ReLU and 2x2 average pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext._checks import check_feature_maps, check_whole
from efficientad_ext._derivatives import register_gradient
from efficientad_ext._layout import empty_like_layout, for_kernels, is_channels_last
from efficientad_ext._registry import Backend, register


def _pooled_shape(x: Tensor, pool_padding: int) -> tuple[int, int, int, int]:
    height, width = ((length + 2 * pool_padding) // 2 for length in x.shape[2:])
    return x.shape[0], x.shape[1], height, width


def _forward(backend: Backend, x: Tensor, pool_padding: int) -> Tensor:
    x = for_kernels(x)
    output = _forward_fake(x, pool_padding)
    if output.numel() > 0:
        backend.run("relu_pool", x.device, x, pool_padding, output)
    return output


def _forward_fake(x: Tensor, pool_padding: int) -> Tensor:
    return empty_like_layout(for_kernels(x), _pooled_shape(x, pool_padding))


def _gradient(backend: Backend, gradient: Tensor, x: Tensor, pool_padding: int) -> Tensor:
    x = for_kernels(x)
    output = empty_like_layout(x, tuple(x.shape))
    if output.numel() > 0:
        # Autograd hands over any layout, expanded ones included; the kernel takes that of x.
        gradient = gradient.contiguous(
            memory_format=torch.channels_last if is_channels_last(x) else torch.contiguous_format
        )
        backend.run("relu_pool_gradient", x.device, x, gradient, pool_padding, output)
    return output


def _gradient_fake(gradient: Tensor, x: Tensor, pool_padding: int) -> Tensor:
    return empty_like_layout(for_kernels(x), tuple(x.shape))


raw_relu_pool = register("relu_pool(Tensor x, int pool_padding) -> Tensor", _forward, _forward_fake)
_raw_gradient = register(
    "relu_pool_gradient(Tensor gradient, Tensor x, int pool_padding) -> Tensor",
    _gradient,
    _gradient_fake,
)


def _save(context: Any, arguments: tuple[Tensor, int], _result: Tensor) -> None:
    x, context.pool_padding = arguments
    context.save_for_backward(x)


def _backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (x,) = context.saved_tensors
    return _raw_gradient(gradient, x, context.pool_padding), None


def _save_for_second(context: Any, arguments: tuple[Tensor, Tensor, int], _result: Tensor) -> None:
    _, x, context.pool_padding = arguments
    context.save_for_backward(x)


def _backward_of_gradient(context: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
    """The gradient is linear in its upstream, and constant in x wherever it is differentiable."""
    (x,) = context.saved_tensors
    active = upstream.masked_fill(x <= 0, 0)
    return functional.avg_pool2d(active, 2, 2, context.pool_padding), None, None


_call = register_gradient(raw_relu_pool, _save, _backward)
register_gradient(_raw_gradient, _save_for_second, _backward_of_gradient)


def relu_pool(x: Tensor, *, pool_padding: int = 0) -> Tensor:
    """ReLU, and 2x2 average pooling with stride 2, differentiable any number of times.

    What follows the convolution in the first two stages of a patch description network
    (EfficientAD, appendix A), where that is computed by another library, as in training:
    one pass forward and one backward, without the rectified maps.
    :func:`efficientad_ext.ops.conv_relu_pool` includes the convolution.

    Args:
        x: the convolution's output, (N, C, H, W), float64, float32, float16 or bfloat16.
            Contiguous, channels-last and channel-sliced tensors are read in place.
        pool_padding: 0, or 1 for a border of zeros around ``x``; they count in the average.

    Returns:
        (N, C, (H + 2 pool_padding) // 2, (W + 2 pool_padding) // 2), in the type and the memory
        format of ``x``.

    Raises:
        TypeError: for another element type, or a ``pool_padding`` that is no whole number.
        ValueError: for another shape, a ``pool_padding`` that is neither 0 nor 1, or maps smaller
            than a pooling window.
    """
    check_feature_maps("x", x)
    pool_padding = check_whole("pool_padding", pool_padding)
    if pool_padding not in (0, 1):
        raise ValueError(f"pool_padding is {pool_padding}; expected 0 or 1")
    if 0 in (*x.shape[2:], *_pooled_shape(x, pool_padding)[2:]):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, too small for a 2x2 pooling window "
            f"with a padding of {pool_padding}"
        )
    return _call(x, pool_padding)
