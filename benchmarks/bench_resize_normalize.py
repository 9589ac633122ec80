from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference


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
        lambda: ops.resize_normalize(image, (256, 256)),
        lambda: reference.resize_normalize(image, (256, 256)),
        floor=1.0,
    )
