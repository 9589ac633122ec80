from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import ops

QUANTILES = (0.1, 0.7, -0.2, 0.5)
SIZE = (256, 256)


def composition(local_map, global_map):
    """What other implementations do: calibrate, average, pad, resize, take the maximum."""
    local_a, local_b, global_a, global_b = QUANTILES
    local_calibrated = 0.1 * (local_map - local_a) / (local_b - local_a)
    global_calibrated = 0.1 * (global_map - global_a) / (global_b - global_a)
    combined = 0.5 * local_calibrated + 0.5 * global_calibrated
    padded = functional.pad(combined, (4, 4, 4, 4))
    upsampled = functional.interpolate(padded, size=SIZE, mode="bilinear", align_corners=False)
    return upsampled, upsampled.amax(dim=(1, 2, 3))


@pytest.mark.parametrize("batch", [1, 16])
def test_forward(compare, device, batch):
    local_map, global_map = torch.randn(2, batch, 1, 56, 56, device=device)
    compare(
        f"normalize_and_combine batch {batch}",
        lambda: ops.normalize_and_combine(local_map, global_map, QUANTILES, SIZE),
        lambda: composition(local_map, global_map),
        floor=2.0,
    )
