"""Plain-torch reference of :func:`efficientad_ext.ops.normalize_and_combine`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from efficientad_ext.reference.upsample_bilinear import upsample_bilinear


def normalize_and_combine(
    local_map: Tensor,
    global_map: Tensor,
    quantiles: Sequence[float] | Tensor,
    size: tuple[int, int],
    *,
    input_size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Both calibrations, the average, the upsampling and the maximum, one after the other."""
    local_a, local_b, global_a, global_b = (float(value) for value in quantiles)
    local_calibrated = 0.1 * (local_map - local_a) / (local_b - local_a)
    global_calibrated = 0.1 * (global_map - global_a) / (global_b - global_a)
    combined = 0.5 * local_calibrated + 0.5 * global_calibrated
    score = combined.amax(dim=(1, 2, 3))
    return (
        upsample_bilinear(combined, size, alignment="pixel_exact", input_size=input_size),
        score,
    )
