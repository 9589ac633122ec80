"""Plain-torch reference of :func:`efficientad_ext.ops.relu_pool`."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def relu_pool(x: Tensor, *, pool_padding: int = 0) -> Tensor:
    """ReLU and 2x2 average pooling as two torch operations."""
    return functional.avg_pool2d(functional.relu(x), kernel_size=2, stride=2, padding=pool_padding)
