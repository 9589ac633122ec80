"""Plain-torch reference of :func:`efficientad_ext.ops.bfloat16_convolution`."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def bfloat16_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: int = 0
) -> Tensor:
    """A convolution of stride 1 as torch's operation, in the weight's type.

    The weight is rounded to the type of ``x``, and so is the result.
    """
    rounded = weight.to(x.dtype).to(weight.dtype)
    return functional.conv2d(x.to(weight.dtype), rounded, bias, padding=padding).to(x.dtype)
