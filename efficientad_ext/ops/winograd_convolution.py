"""Convolutions in float32 by Winograd's minimal filtering, for training on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientad_ext._convolution import ConvolutionKind

_POINTS = 36
_KIND = ConvolutionKind(
    name="winograd_convolution",
    convolution="winograd_convolution",
    weights="winograd_weights",
    weight_size=lambda _taps: _POINTS,
    filter_gradient="winograd_filter_gradient",
    types=(torch.float32, torch.float64),
    kernels=(3, 4),
)
_call = _KIND.register()


def can_be_winograd(x: Tensor, weight: Tensor, *, stride: int = 1) -> bool:
    """Whether `winograd_convolution` computes this convolution: see there."""
    return _KIND.fits(x, weight, stride)


def winograd_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: int = 0
) -> Tensor:
    """A convolution of stride 1 with a quarter of the multiplications.

    Winograd's minimal filtering (Lavin and Gray, CVPR 2016) on tiles of 6x6 inputs, forward and
    backward: for the convolutions of the patch description networks and of the autoencoder
    (EfficientAD, appendix A) in training on a CPU. Differentiable any number of times: by these
    kernels, or, where a graph of the gradients is recorded, by torch's. The same bits with any
    number of threads, torch's sum for the bias's gradient aside.

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
    return _call(x, weight, bias, _KIND.check(x, weight, bias, padding))
