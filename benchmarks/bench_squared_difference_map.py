from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_forward(compare, device, memory_format):
    """The local map at 256x256: a teacher against the first half of a student's output."""
    teacher = torch.randn(1, 384, 56, 56, device=device).contiguous(memory_format=memory_format)
    student = torch.randn(1, 768, 56, 56, device=device).contiguous(memory_format=memory_format)
    half = student[:, :384]
    name = "channels_last" if memory_format == torch.channels_last else "planes"
    compare(
        f"squared_difference_map {name}",
        lambda: ops.squared_difference_map(teacher, half),
        lambda: reference.squared_difference_map(teacher, half),
        floor=2.0,
    )


def test_gradient(compare, device):
    a = torch.randn(1, 384, 56, 56, device=device)
    b = torch.randn(1, 384, 56, 56, device=device, requires_grad=True)

    def run(function):
        (gradient,) = torch.autograd.grad(function(a, b).mean(), b)
        return gradient

    compare(
        "squared_difference_map with gradient",
        lambda: run(ops.squared_difference_map),
        lambda: run(reference.squared_difference_map),
        floor=1.0,
    )
