"""A medium teacher that begins as what a small one has learned."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Keeps the small teacher's outputs, which are normalised to deviation 1, through a ReLU.
_LIFT = 4.0


def widen(medium: dict[str, Tensor], small: Mapping[str, Tensor]) -> None:
    """Writes a small teacher into a medium one, which then computes the same (Net2Net, Chen 2016).

    PDN-M has PDN-S's layers with twice the channels, and two of 1x1 between and behind them, here
    identities. The other channels keep their weights, from which they learn, but nothing reads them
    yet. What is below -4 in the small teacher's output, whose deviation is 1, becomes -4: a ReLU of
    PDN-M lies behind it.

    Args:
        medium: the state dict of ``pdn("medium", 384)`` with initial weights, changed in place.
        small: the state dict of ``pdn("small", 384)``.
    """
    _embed(medium, "0", small["0.weight"], small["0.bias"])
    _embed(medium, "3", small["3.weight"], small["3.bias"])
    _embed(medium, "6", *_identity(small["3.bias"]))
    _embed(medium, "8", small["6.weight"], small["6.bias"])
    _embed(medium, "10", small["8.weight"], small["8.bias"] + _LIFT)
    weight, bias = _identity(small["8.bias"])
    _embed(medium, "12", weight, bias - _LIFT)


def _identity(like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a 1x1 convolution that passes on as many channels as ``like`` has."""
    return torch.eye(len(like))[:, :, None, None], torch.zeros(len(like))


def _embed(state: dict[str, Tensor], layer: str, weight: Tensor, bias: Tensor) -> None:
    """Makes the layer's first outputs those of a convolution of its first inputs."""
    outputs, inputs = weight.shape[:2]
    state[f"{layer}.weight"][:outputs] = 0
    state[f"{layer}.weight"][:outputs, :inputs] = weight
    state[f"{layer}.bias"][:outputs] = bias
