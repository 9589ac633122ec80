from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference

# On a CPU the second stage's convolution is torch's on both sides and takes nearly all of the time,
# so that two runs of the same thing differ by as much as the op gains: "not slower" is a ratio of 1
# within noise.
NOT_SLOWER = 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("stage", "channels", "side"), [(1, 3, 256), (2, 128, 126)])
def test_forward(compare, device, stage, channels, side, dtype):
    """The two stages of a PDN-S at 256x256."""
    last = torch.channels_last
    outputs = 128 * stage
    x = torch.randn(1, channels, side, side, device=device).to(dtype).to(memory_format=last)
    weight = torch.randn(outputs, channels, 4, 4, device=device) / (4 * channels**0.5)
    weight = weight.to(dtype).to(memory_format=last)
    bias = torch.randn(outputs, device=device).to(dtype)
    compare(
        f"conv_relu_pool stage {stage} {str(dtype).removeprefix('torch.')}",
        lambda: ops.conv_relu_pool(x, weight, bias),
        lambda: reference.conv_relu_pool(x, weight, bias),
        floor=NOT_SLOWER,
    )


def test_gradient(compare, device):
    last = torch.channels_last
    x = torch.randn(1, 3, 256, 256, device=device).to(memory_format=last)
    weight = torch.randn(128, 3, 4, 4, device=device).to(memory_format=last).requires_grad_()

    def run(function):
        return torch.autograd.grad(function(x, weight).mean(), weight)

    compare(
        "conv_relu_pool stage 1 with gradient",
        lambda: run(ops.conv_relu_pool),
        lambda: run(reference.conv_relu_pool),
        floor=NOT_SLOWER,
    )
