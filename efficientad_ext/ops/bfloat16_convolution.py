"""Convolutions in bfloat16 with a float32 weight, for training on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientad_ext._convolution import ConvolutionKind

_KIND = ConvolutionKind(
    name="bfloat16_convolution",
    convolution="segment_convolution",
    weights="segment_weights",
    weight_size=lambda taps: taps**2,
    filter_gradient="filter_gradient",
    types=(torch.bfloat16,),
    kernels=(1, 2, 3, 4),
)
_call = _KIND.register()


def can_be_bfloat16(x: Tensor, weight: Tensor, *, stride: int = 1) -> bool:
    """Whether `bfloat16_convolution` computes this convolution: see there."""
    return _KIND.fits(x, weight, stride)


def bfloat16_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: int = 0
) -> Tensor:
    """A convolution of stride 1 in bfloat16, whose weight and its gradient are float32.

    For the convolutions of the patch description networks and of the autoencoder (EfficientAD,
    appendix A) in training on a CPU that has AMX; other CPUs compute it by vectors, without haste.
    Products are added up in float32, forward and backward, and the sums rounded to bfloat16 but for
    the weight's gradient. Differentiable any number of times: by these kernels, or, where a graph
    of the gradients is recorded, by torch's. The same bits with any number of threads, torch's sum
    for the bias's gradient aside.

    Args:
        x: (N, C, H, W) in the CPU's memory, bfloat16. Channels-last is read in place.
        weight: (O, C, K, K) in float32, K 1 to 4, C and O multiples of 64; multiplied as bfloat16.
            Channels-last is read in place.
        bias: (O,) in float32, or None.
        padding: zeros around ``x``, less than K.

    Returns:
        (N, O, H + 2 padding - K + 1, W + 2 padding - K + 1), bfloat16, channels-last.

    Raises:
        TypeError: for another element type, or a padding that is no whole number.
        ValueError: for tensors elsewhere, other shapes, a bias of another type or another padding.
    """
    return _call(x, weight, bias, _KIND.check(x, weight, bias, padding))
