"""What moves a teacher's weights in its distillation."""

from __future__ import annotations

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
_MOMENTUM = 0.95
_COLOURS = 3


class TeacherOptimizer:
    """Adam as in the paper, or Muon for all convolutions but the first, and Adam for the rest.

    Muon (Jordan et al. 2024) takes the nearest orthogonal matrix to the momentum of a weight matrix
    as its step, scaled here to have the size of a step of Adam. A convolution's matrix has a row
    for each output channel and a column for each input channel and tap; for the first one, which
    sees colours, and for biases it is not meant.

    The weights must be channels-last, whose bytes are such a matrix as they are, and must stay
    where they are in memory.
    """

    def __init__(self, network: nn.Module, name: OptimizerName) -> None:
        self._rate = LEARNING_RATES[name]
        self._by_adam = dict(network.named_parameters())
        self._by_muon = {}
        if name == "muon":
            matrices = [key for key, value in self._by_adam.items() if _is_hidden(value)]
            self._by_muon = {key: self._by_adam.pop(key) for key in matrices}
        self._matrices = {
            key: nn.Parameter(_rows(weight.detach()).view(weight.shape[0], -1))
            for key, weight in self._by_muon.items()
        }
        self._adam = torch.optim.Adam(
            self._by_adam.values(), lr=self._rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        self._muon = None
        if self._matrices:
            self._muon = torch.optim.Muon(
                self._matrices.values(),
                lr=self._rate,
                weight_decay=0.0,
                momentum=_MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )

    def step(self, share: float) -> None:
        """Moves the weights by their gradients, at this share of the highest rate, and clears them.

        Every parameter must have its gradient.
        """
        for key, matrix in self._matrices.items():
            gradient = self._by_muon[key].grad
            assert gradient is not None
            matrix.grad = _rows(gradient).reshape(matrix.shape)
            self._by_muon[key].grad = None
        for optimizer in filter(None, (self._adam, self._muon)):
            for group in optimizer.param_groups:
                group["lr"] = share * self._rate
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """The weights and what the next steps depend on, by name; not yet made, it is zeros."""
        tensors = adam_state(self._by_adam, self._adam)
        for key, matrix in self._matrices.items():
            assert self._muon is not None
            state = self._muon.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            tensors[key] = self._by_muon[key]
            tensors[f"muon.momentum.{key}"] = state["momentum_buffer"]
        return tensors


def _is_hidden(parameter: Tensor) -> bool:
    """Whether it is the weight of a convolution over features, not over colours."""
    return parameter.ndim == 4 and parameter.shape[1] > _COLOURS


def _rows(weight: Tensor) -> Tensor:
    """(output channels, rows, columns, input channels): the order of channels-last bytes."""
    return weight.permute(0, 2, 3, 1)
