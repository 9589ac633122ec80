from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import ops

SIZE = (256, 256)


def composition(image):
    """What other implementations do, on one image (H, W, C)."""
    pixels = image.movedim(-1, 0)[None].float() / (255 if image.dtype == torch.uint8 else 65535)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    elif pixels.shape[1] == 4:
        alpha = pixels[:, 3:]
        pixels = pixels[:, :3] * alpha + (1 - alpha)
    resized = functional.interpolate(
        pixels, size=SIZE, mode="bilinear", align_corners=False, antialias=True
    )
    mean, deviation = (
        torch.tensor(values, device=image.device).view(1, 3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (resized - mean) / deviation


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("camera frame", (1024, 1024, 3), torch.uint8),
        ("mono", (400, 300, 1), torch.uint8),
        ("mono 16 bit", (1024, 1024, 1), torch.uint16),
        ("alpha", (512, 512, 4), torch.uint8),
        ("same size", (256, 256, 3), torch.uint8),
        ("enlarged", (120, 160, 3), torch.uint8),
    ],
)
def test_forward(compare, device, name, shape, dtype):
    largest = 255 if dtype == torch.uint8 else 65535
    image = torch.randint(0, largest + 1, shape).to(dtype).to(device)
    compare(
        f"resize_normalize {name}",
        lambda: ops.resize_normalize(image, SIZE),
        lambda: composition(image),
        floor=1.0,
    )
