"""Plain-torch reference of :func:`efficientad_ext.ops.image_conv_relu_pool`."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientad_ext.reference.conv_relu_pool import conv_relu_pool


def image_conv_relu_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int = 0,
    pool_padding: int = 0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Convolution, ReLU and 2x2 average pooling as three torch operations, in the type of ``x``.

    Image and weight are rounded to ``dtype``, and so is the result.
    """
    dtype = x.dtype if dtype is None else dtype
    image, filters = (tensor.to(dtype).to(x.dtype) for tensor in (x, weight))
    pooled = conv_relu_pool(image, filters, bias, padding=padding, pool_padding=pool_padding)
    return pooled.to(dtype)
