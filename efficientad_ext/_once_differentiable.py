"""Gradients that can be taken once, where taking them again is an error.

torch's own decorator of this name notices a second time only where the gradient handed in needs one
itself; where the op's arguments do, it gives zeros without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import Function

Backward = Callable[..., Any]


class _TakenOnce(Function):
    @staticmethod
    def forward(_: Any, gradient: Tensor, *__: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(*_: Any) -> NoReturn:
        raise RuntimeError("the gradient of this op can be taken once, not twice")


def once_differentiable(backward: Backward) -> Backward:
    """For ``backward`` of a ``Function`` that returns a tuple and saves its tensor arguments."""

    @wraps(backward)
    def taken_once(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            results = backward(ctx, *gradients)
        # Saved tensors may be asked for once only where torch.utils.checkpoint has packed them.
        if not torch.is_grad_enabled():
            return tuple(results)
        depends_on = [one for one in (*gradients, *ctx.saved_tensors) if one.requires_grad]
        if not depends_on:
            return tuple(results)
        apply: Callable[..., Tensor] = _TakenOnce.apply
        return tuple(one if one is None else apply(one, *depends_on) for one in results)

    return taken_once
