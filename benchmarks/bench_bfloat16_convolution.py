from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import build_config, ops

NOT_SLOWER = 1.0


def test_with_gradient(compare, device, layer):
    """Forward and backward, as autocast has them."""
    if device.type != "cpu" or not build_config()["cpu_instruction_set"].startswith("amx"):
        pytest.skip("is used on CPUs with AMX alone")
    variables = layer.operands(torch.bfloat16)
    upstream = torch.randn_like(ops.bfloat16_convolution(*variables))

    def by_torch():
        with torch.autocast("cpu", torch.bfloat16):
            return functional.conv2d(*variables)

    compare(
        f"bfloat16_convolution {layer.name} with gradient",
        lambda: torch.autograd.grad(ops.bfloat16_convolution(*variables), variables, upstream),
        lambda: torch.autograd.grad(by_torch(), variables, upstream),
        floor=NOT_SLOWER,
    )
