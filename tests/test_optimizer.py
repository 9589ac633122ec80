from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from efficientad.optimizer import Optimizer, rate_share
from torch import Tensor, nn


def test_the_rate_rises_stays_and_falls():
    shares = [rate_share(step, 10_000) for step in (0, 99, 5_000, 7_000, 8_500, 9_999)]
    assert shares == pytest.approx([0.01, 1, 1, 1, 0.5, 0], abs=1e-3)
    assert rate_share(6_000, 10_000) == rate_share(6_000, 9_000)


def orthogonalized(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, in float64."""
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return left @ right


def test_muon_moves_hidden_convolutions_by_orthogonal_matrices_and_adam_the_rest():
    """Two steps; the iteration that torch uses gives singular values of about 0.7 to 1.2."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 2), nn.Conv2d(6, 4, 1))
    network = network.to(memory_format=torch.channels_last)
    optimizer = Optimizer(network, "muon")
    rate = 1e-3
    momenta: dict[str, Tensor] = {}
    for _ in range(2):
        before = {name: value.detach().clone() for name, value in network.named_parameters()}
        for value in network.parameters():
            value.grad = torch.randn_like(value)
        gradients = {name: value.grad.clone() for name, value in network.named_parameters()}
        optimizer.step(rate)
        for name, value in network.named_parameters():
            moved = (value.detach() - before[name]).double()
            if name not in ("1.weight", "2.weight"):
                assert moved.abs().max() <= 1.5 * rate
                continue
            gradient = gradients[name].flatten(1)
            momenta[name] = 0.95 * momenta.get(name, 0) + 0.05 * gradient
            wanted = orthogonalized(0.05 * gradient + 0.95 * momenta[name])
            step = -moved.flatten(1) / (rate * 0.2 * max(wanted.shape) ** 0.5)
            alike = (step * wanted).sum() / step.norm() / wanted.norm()
            assert alike > 0.97
            values = torch.linalg.svdvals(step)
            assert values.min() > 0.5
            assert values.max() < 1.3
        assert all(value.grad is None for value in network.parameters())


def test_adam_is_torchs_adam_for_every_weight():
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 2))
    network = network.to(memory_format=torch.channels_last)
    other = deepcopy(network)
    optimizer = Optimizer(network, "adam")
    expected = torch.optim.Adam(other.parameters(), lr=1e-3, weight_decay=1e-5)
    for _ in range(3):
        for one, two in zip(network.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            two.grad = one.grad.clone()
        optimizer.step(1e-3)
        expected.step()
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-7)
