"""Plain-torch reference of the kernel of csrc/include/efficientad/linear.h."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(N, inputs) times (outputs, inputs) transposed, and a bias (outputs,)."""
    return functional.linear(x, weight, bias)
