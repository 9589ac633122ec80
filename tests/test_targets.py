from __future__ import annotations

import pytest
import torch
from efficientad.networks import pdn
from efficientad.targets import Descriptors
from torch import Tensor, nn
from torch.nn import functional


class GivenFeatures(nn.Module):
    """A backbone whose features do not depend on the image."""

    def __init__(self, fine: Tensor, coarse: Tensor) -> None:
        super().__init__()
        self.levels = (fine, coarse)
        self.channels = (fine.shape[1], coarse.shape[1])

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
        return self.levels


def reference(level: Tensor, pooled: int) -> Tensor:
    """Neighbourhood mean and channel pooling, element by element."""
    images, channels, height, width = level.shape
    means = torch.empty_like(level)
    for row in range(height):
        for column in range(width):
            rows = slice(max(0, row - 1), row + 2)
            columns = slice(max(0, column - 1), column + 2)
            means[:, :, row, column] = level[:, :, rows, columns].mean((2, 3))
    flat = means.permute(0, 2, 3, 1).reshape(-1, 1, channels)
    averaged = functional.adaptive_avg_pool1d(flat, pooled)
    return averaged.reshape(images, height, width, pooled).permute(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [(288, 720), (192, 1024)])
def test_descriptors_are_what_their_description_says(channels: tuple[int, int]):
    fine = torch.randn(2, channels[0], 6, 8, dtype=torch.float64)
    coarse = torch.randn(2, channels[1], 3, 4, dtype=torch.float64)
    found = Descriptors(GivenFeatures(fine, coarse)).double()(torch.empty(0))
    assert found.shape == (2, 384, 6, 8)
    torch.testing.assert_close(found[:, :192], reference(fine, 192))
    pooled = reference(coarse, 192)
    torch.testing.assert_close(found[:, 192:, ::2, ::2], pooled)
    half_way = (pooled[..., :-1] + pooled[..., 1:]) / 2
    torch.testing.assert_close(found[:, 192:, ::2, 1:-1:2], half_way)
    torch.testing.assert_close(found[:, 192:, ::2, -1], pooled[..., -1])


def test_a_padded_pdn_is_centred_where_its_targets_are():
    """PDN feature (i, j) sees the 33 pixels around (4 i, 4 j) of a picture half as large."""
    image = torch.rand(1, 3, 96, 96, dtype=torch.float64, requires_grad=True)
    features = pdn("small", 384, padded=True).double()(image)
    assert features.shape[-2:] == (24, 24)
    (gradient,) = torch.autograd.grad(features[0, :, 11, 12].sum(), image)
    # Winograd's convolutions leave a rounding where nothing is seen.
    seen = gradient[0].abs().sum(0) > 1e-12 * gradient.abs().max()
    rows, columns = torch.nonzero(seen, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (44 - 16, 44 + 16)
    assert (int(columns.min()), int(columns.max())) == (48 - 16, 48 + 16)
