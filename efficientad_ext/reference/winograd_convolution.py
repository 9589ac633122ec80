"""Plain-torch reference of :func:`efficientad_ext.ops.winograd_convolution`.

And the weights of the kernel of csrc/include/efficientad/winograd_convolution.h, which computes
`efficientad_ext.reference.segment_convolution` in the engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def winograd_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, padding: int = 0
) -> Tensor:
    """A convolution of stride 1 as torch's operation."""
    return functional.conv2d(x, weight, bias, padding=padding)


POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)
"""At which polynomials are evaluated, along either axis; and infinity."""


def evaluation_matrix(taps: int) -> Tensor:
    """G of the header: (6, ``taps``) in float64, from taps to values at the points."""
    points = torch.tensor(POINTS, dtype=torch.float64)
    differences = points[:, None] - points
    norms = differences.fill_diagonal_(1.0).prod(1)
    at_infinity = torch.zeros(1, taps, dtype=torch.float64)
    at_infinity[0, -1] = 1.0
    return torch.cat([points[:, None] ** torch.arange(taps) / norms[:, None], at_infinity])


def weights_at_points(weights: Sequence[Tensor]) -> Tensor:
    """The segments' weights in the order of the kernel's sums.

    Args:
        weights: (output channels, channels, kernel, kernel) for each segment, of one type.

    Returns:
        (output channels, 36 * channels of all segments), contiguous, in the same type: the points
        of rows, those of columns, and channels, the last fastest. Smaller kernels are extended by
        zeros to the size of the largest, below and to the right.
    """
    taps = max(weight.shape[2] for weight in weights)
    matrix = evaluation_matrix(taps)
    extended = [
        functional.pad(weight.double(), (0, taps - weight.shape[2]) * 2) for weight in weights
    ]
    # output, channel, row, column -> output, point of rows, point of columns, channel
    values = matrix @ torch.cat(extended, dim=1) @ matrix.T
    return values.permute(0, 2, 3, 1).flatten(1).contiguous().to(weights[0].dtype)
