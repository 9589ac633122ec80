from __future__ import annotations

import pytest
import torch
from efficientad.memory import freed_memory_is_kept

from efficientad_ext import ops, reference

NOT_SLOWER = 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_with_gradient(compare, device, dtype):
    """Forward and backward of a PDN-S's first stage on the three images of a training step.

    In a training freed memory is kept. Where it is not, torch's maps, of 98 MB each here, are
    mapped anew in every call, which takes longer than to compute them.
    """
    if device.type != "cpu":
        pytest.skip("is on the CPU alone")
    last = torch.channels_last
    x = torch.randn(3, 3, 256, 256, device=device).to(memory_format=last)
    weight = (torch.randn(128, 3, 4, 4, device=device) / 7).to(memory_format=last).requires_grad_()
    bias = torch.randn(128, device=device, requires_grad=True)
    upstream = torch.randn_like(ops.image_conv_relu_pool(x, weight, bias, dtype=dtype))

    def by_torch():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return reference.conv_relu_pool(x, weight, bias)

    def run(function):
        return torch.autograd.grad(function(), (weight, bias), upstream)

    with freed_memory_is_kept():
        compare(
            f"image_conv_relu_pool with gradient {str(dtype).removeprefix('torch.')}",
            lambda: run(lambda: ops.image_conv_relu_pool(x, weight, bias, dtype=dtype)),
            lambda: run(by_torch),
            floor=NOT_SLOWER,
        )
