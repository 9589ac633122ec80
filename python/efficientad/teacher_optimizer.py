"""What moves a teacher's weights in its distillation."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from efficientad.checkpoint import adam_state

OptimizerName: TypeAlias = Literal["muon", "adam"]

# The highest rates. Adam's is ten times the paper's, for runs of less than its 60,000 steps: after
# 1,920 quarters of crops in batches of 16, the held-out loss is 0.81 at 1e-4, 0.71 at 5e-4, 0.70 at
# 1e-3 and 0.72 at 2e-3. Muon's: see "Muon" in benchmarks/NOTES.md.
LEARNING_RATES: dict[OptimizerName, float] = {"muon": 2e-3, "adam": 1e-3}
WEIGHT_DECAY = 1e-5
# Of Muon's weights, which grow without it as long as steps are noisy, and the noise with them: see
# "Distillations of more than a thousand steps" in benchmarks/NOTES.md.
MUON_WEIGHT_DECAY = 0.1
_MOMENTUM = 0.95
_COLOURS = 3

# The root mean square of a step of Adam's, by experience, which Muon's steps get as well.
_SIZE_OF_A_STEP = 0.2

# x -> a x + b x³ + c x⁵, five times, brings singular values from 0.002 to 1 into 0.68 to 1.21
# (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


class TeacherOptimizer:
    """Adam, or Muon for all convolutions but the first and Adam for the rest.

    Adam is the paper's, but at ten times its rate. Muon (Jordan et al. 2024) takes the nearest
    orthogonal matrix to the momentum of a weight matrix as its step, scaled here to have the size
    of a step of Adam, while the matrix shrinks by a tenth of the rate (Liu et al. 2025). A
    convolution's matrix has a row for each output channel and a column for each input channel and
    tap; for the first one, which sees colours, and for biases it is not meant. torch's own Muon
    multiplies these matrices in bfloat16 alone, which takes seconds on a processor that has no such
    multiplications.

    The weights must be channels-last, whose bytes are such a matrix as they are.
    """

    def __init__(self, network: nn.Module, name: OptimizerName) -> None:
        self._rate = LEARNING_RATES[name]
        self._by_adam = dict(network.named_parameters())
        self._by_muon = {}
        if name == "muon":
            matrices = [key for key, value in self._by_adam.items() if _is_hidden(value)]
            self._by_muon = {key: self._by_adam.pop(key) for key in matrices}
        self._momenta = {
            key: torch.zeros_like(_as_matrix(weight)) for key, weight in self._by_muon.items()
        }
        self._adam = torch.optim.Adam(
            self._by_adam.values(), lr=self._rate, weight_decay=WEIGHT_DECAY, fused=True
        )

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Moves the weights by their gradients, at this share of the highest rate, and clears them.

        Every parameter must have its gradient.
        """
        rate = share * self._rate
        for key, weight in self._by_muon.items():
            assert weight.grad is not None
            gradient = _rows(weight.grad).flatten(1)
            momentum = self._momenta[key].lerp_(gradient, 1 - _MOMENTUM)
            moved = orthogonalized(gradient.lerp(momentum, _MOMENTUM))
            size = _SIZE_OF_A_STEP * math.sqrt(max(moved.shape))
            matrix = _as_matrix(weight).mul_(1 - MUON_WEIGHT_DECAY * rate)
            matrix.sub_(moved, alpha=rate * size)
            weight.grad = None
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self._adam.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """The weights and what the next steps depend on, by name; not yet made, it is zeros."""
        tensors = adam_state(self._by_adam, self._adam)
        for key, weight in self._by_muon.items():
            tensors[key] = weight
            tensors[f"muon.momentum.{key}"] = self._momenta[key]
        return tensors


def orthogonalized(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1, by a Newton-Schulz iteration.

    Those below 0.002 of the Frobenius norm stay smaller.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp(min=torch.finfo(wide.dtype).tiny)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x if wide is matrix else x.T


def _is_hidden(parameter: Tensor) -> bool:
    """Whether it is the weight of a convolution over features, not over colours."""
    return parameter.ndim == 4 and parameter.shape[1] > _COLOURS


def _as_matrix(weight: Tensor) -> Tensor:
    """(output channels, all else) over the same memory."""
    return _rows(weight.detach()).view(weight.shape[0], -1)


def _rows(weight: Tensor) -> Tensor:
    """(output channels, rows, columns, input channels): the order of channels-last bytes."""
    return weight.permute(0, 2, 3, 1)
