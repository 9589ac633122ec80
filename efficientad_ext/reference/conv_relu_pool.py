"""Plain-torch reference of :func:`efficientad_ext.ops.conv_relu_pool`."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def conv_relu_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int = 0,
    pool_padding: int = 0,
) -> Tensor:
    """Convolution, ReLU and 2x2 average pooling as three torch operations."""
    activation = functional.relu(functional.conv2d(x, weight, bias, padding=padding))
    return functional.avg_pool2d(activation, kernel_size=2, stride=2, padding=pool_padding)
