from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference

TWICE, NOT_SLOWER = 2.0, 1.0


@pytest.mark.parametrize(
    ("name", "channels", "outputs", "kernel", "side"),
    [
        ("stage 2", 128, 256, 4, 126),
        ("layer 3", 256, 256, 3, 61),
        ("last", 256, 384, 4, 59),
    ],
)
def test_with_gradient(compare, device, name, channels, outputs, kernel, side):
    """Forward and backward of the layers of a PDN-S at 256x256, float32."""
    if device.type != "cpu":
        pytest.skip("the CPU alone has this kernel")
    last = torch.channels_last
    x = torch.randn(1, channels, side, side).contiguous(memory_format=last)
    weight = torch.randn(outputs, channels, kernel, kernel).contiguous(memory_format=last)
    bias = torch.randn(outputs)
    variables = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    upstream = torch.randn_like(ops.winograd_convolution(*variables))
    compare(
        f"winograd_convolution {name} with gradient",
        lambda: torch.autograd.grad(ops.winograd_convolution(*variables), variables, upstream),
        lambda: torch.autograd.grad(
            reference.winograd_convolution(*variables), variables, upstream
        ),
        floor=TWICE if kernel == 4 else NOT_SLOWER,
    )
