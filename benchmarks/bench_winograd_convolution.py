from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference

TWICE, NOT_SLOWER = 2.0, 1.0


def test_with_gradient(compare, device, layer):
    """Forward and backward, float32."""
    if device.type != "cpu":
        pytest.skip("the CPU alone has this kernel")
    variables = layer.operands(torch.float32)
    upstream = torch.randn_like(ops.winograd_convolution(*variables))
    compare(
        f"winograd_convolution {layer.name} with gradient",
        lambda: torch.autograd.grad(ops.winograd_convolution(*variables), variables, upstream),
        lambda: torch.autograd.grad(
            reference.winograd_convolution(*variables), variables, upstream
        ),
        floor=TWICE if layer.kernel == 4 else NOT_SLOWER,
    )
