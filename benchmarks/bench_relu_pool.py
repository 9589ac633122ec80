from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradient(compare, device, dtype, memory_format):
    """Forward and backward behind the first convolution of a PDN-S at 256x256."""
    x = torch.randn(1, 128, 253, 253, device=device).to(dtype)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    upstream = torch.randn_like(ops.relu_pool(x))
    name = "channels_last" if memory_format == torch.channels_last else "planes"
    compare(
        f"relu_pool with gradient {name} {str(dtype).removeprefix('torch.')}",
        lambda: torch.autograd.grad(ops.relu_pool(x), x, upstream),
        lambda: torch.autograd.grad(reference.relu_pool(x), x, upstream),
        floor=1.0,
    )
