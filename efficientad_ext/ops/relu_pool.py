"""ReLU and 2x2 average pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from efficientad_ext._checks import check_feature_maps, needs_gradient
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


class _ReluPool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pool_padding: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.pool_padding = pool_padding
        return raw_relu_pool(x, pool_padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        apply = _ReluPoolGradient.apply if needs_gradient(gradient) else _raw_gradient
        return apply(gradient, *ctx.saved_tensors, ctx.pool_padding), None


class _ReluPoolGradient(Function):
    """Linear in the gradient, and constant in x wherever it is differentiable."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, pool_padding: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.pool_padding = pool_padding
        return _raw_gradient(gradient, x, pool_padding)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        active = upstream.masked_fill(x <= 0, 0)
        return functional.avg_pool2d(active, 2, 2, ctx.pool_padding), None, None


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
        TypeError: for another element type.
        ValueError: for another shape, a ``pool_padding`` that is neither 0 nor 1, or maps smaller
            than a pooling window.
    """
    check_feature_maps("x", x)
    if pool_padding not in (0, 1):
        raise ValueError(f"pool_padding is {pool_padding}; expected 0 or 1")
    if 0 in (*x.shape[2:], *_pooled_shape(x, pool_padding)[2:]):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, too small for a 2x2 pooling window "
            f"with a padding of {pool_padding}"
        )
    apply = _ReluPool.apply if needs_gradient(x) else raw_relu_pool
    return apply(x, pool_padding)
