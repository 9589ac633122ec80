from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import build_config, ops

NOT_SLOWER = 1.0


@pytest.mark.parametrize(
    ("name", "channels", "outputs", "kernel", "side"),
    [
        ("stage 2", 128, 256, 4, 126),
        ("layer 3", 256, 256, 3, 61),
        ("last", 256, 384, 4, 59),
    ],
)
def test_with_gradient(compare, device, name, channels, outputs, kernel, side):
    """Forward and backward of the layers of a PDN-S at 256x256, as autocast has them."""
    if device.type != "cpu" or not build_config()["cpu_instruction_set"].startswith("amx"):
        pytest.skip("is used on CPUs with AMX alone")
    last = torch.channels_last
    x = torch.randn(1, channels, side, side).bfloat16().contiguous(memory_format=last)
    weight = torch.randn(outputs, channels, kernel, kernel).contiguous(memory_format=last)
    variables = [tensor.requires_grad_() for tensor in (x, weight, torch.randn(outputs))]
    upstream = torch.randn_like(ops.bfloat16_convolution(*variables))

    def by_torch():
        with torch.autocast("cpu", torch.bfloat16):
            return functional.conv2d(*variables)

    compare(
        f"bfloat16_convolution {name} with gradient",
        lambda: torch.autograd.grad(ops.bfloat16_convolution(*variables), variables, upstream),
        lambda: torch.autograd.grad(by_torch(), variables, upstream),
        floor=NOT_SLOWER,
    )
