"""What moves the weights in a training or distillation."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from efficientad.checkpoint import adam_state

OptimizerName: TypeAlias = Literal["muon", "adam"]

WEIGHT_DECAY = 1e-5
WARM_UP_STEPS = 100
FALLING_SHARE = 0.3
_MOMENTUM = 0.95
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
_COLOURS = 3


class Optimizer:
    """Adam as in the paper, or Muon for all hidden convolutions, and Adam for the rest.

    Muon (Jordan et al. 2024) takes the nearest orthogonal matrix to the momentum of a weight matrix
    as its step, scaled here to have the size of a step of Adam. A convolution's matrix has a row
    for each output channel and a column for each input channel and tap; for a network's first one,
    which sees colours, and for biases it is not meant.

    The weights must be channels-last, whose bytes are such a matrix as they are, and must stay
    where they are in memory.
    """

    def __init__(self, network: nn.Module, name: OptimizerName) -> None:
        self._by_adam = dict(network.named_parameters())
        self._by_muon = {}
        if name == "muon":
            matrices = [key for key, value in self._by_adam.items() if _is_hidden(value)]
            self._by_muon = {key: self._by_adam.pop(key) for key in matrices}
        self._matrices = {
            key: nn.Parameter(_rows(weight.detach()).view(weight.shape[0], -1))
            for key, weight in self._by_muon.items()
        }
        self._adam = torch.optim.Adam(self._by_adam.values(), weight_decay=WEIGHT_DECAY, fused=True)
        self._muon = None
        if self._matrices:
            self._muon = torch.optim.Muon(
                self._matrices.values(),
                weight_decay=0.0,
                momentum=_MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )

    def step(self, rate: float) -> None:
        """Moves the weights by their gradients, at this rate, and clears the gradients.

        Every parameter must have its gradient.
        """
        for key, matrix in self._matrices.items():
            gradient = self._by_muon[key].grad
            assert gradient is not None
            matrix.grad = _rows(gradient).reshape(matrix.shape)
            self._by_muon[key].grad = None
        for optimizer in filter(None, (self._adam, self._muon)):
            for group in optimizer.param_groups:
                group["lr"] = rate
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


def rate_share(step: int, steps: int) -> float:
    """The share of the highest rate in a step, counted from 0: it rises to 1, stays, and falls.

    It rises over 100 steps and falls to zero, as half a cosine, over the last 30 % of all steps.
    While it stays, it does not depend on the number of steps, so that a run can still be made
    longer or shorter.
    """
    rising = min(1.0, (step + 1) / WARM_UP_STEPS)
    falling = max(0.0, (step - falls_from(steps)) / (steps - falls_from(steps)))
    return rising * (1 + math.cos(math.pi * falling)) / 2


def falls_from(steps: int) -> int:
    """The step from which on the rate falls."""
    return int((1 - FALLING_SHARE) * steps)


def _is_hidden(parameter: Tensor) -> bool:
    """Whether it is the weight of a convolution over features, not over colours."""
    return parameter.ndim == 4 and parameter.shape[1] > _COLOURS


def _rows(weight: Tensor) -> Tensor:
    """(output channels, rows, columns, input channels): the order of channels-last bytes."""
    return weight.permute(0, 2, 3, 1)
