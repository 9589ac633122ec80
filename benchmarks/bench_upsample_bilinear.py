from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import ops


def interpolate(x, size):
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_decoder(compare, device, memory_format):
    """The autoencoder's largest upsampling."""
    x = torch.randn(1, 64, 64, 64, device=device).contiguous(memory_format=memory_format)
    name = "channels_last" if memory_format == torch.channels_last else "planes"
    compare(
        f"upsample_bilinear decoder {name}",
        lambda: ops.upsample_bilinear(x, (127, 127)),
        lambda: interpolate(x, (127, 127)),
        floor=1.0,
    )


def test_map(compare, device):
    x = torch.randn(1, 1, 56, 56, device=device)
    compare(
        "upsample_bilinear map",
        lambda: ops.upsample_bilinear(x, (256, 256)),
        lambda: interpolate(x, (256, 256)),
        floor=1.0,
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradient(compare, device, memory_format):
    x = torch.randn(1, 64, 64, 64, device=device).contiguous(memory_format=memory_format)
    x.requires_grad_()
    upstream = torch.randn(1, 64, 127, 127, device=device).contiguous(memory_format=memory_format)
    name = "channels_last" if memory_format == torch.channels_last else "planes"
    compare(
        f"upsample_bilinear with gradient {name}",
        lambda: torch.autograd.grad(ops.upsample_bilinear(x, (127, 127)), x, upstream),
        lambda: torch.autograd.grad(interpolate(x, (127, 127)), x, upstream),
        floor=1.0,
    )
