"""Derivatives of the raw ops, known to torch's dispatcher.

There rather than in the public functions, so that a raw op has them wherever it is called from: an
exported or a compiled graph, ``torch.vmap``, and the transforms of ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from efficientad_ext._registry import library

Op = Callable[..., Any]
Save = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., Any]


def _is_recorded(arguments: tuple[Any, ...]) -> bool:
    """Whether autograd has to know of a call with these arguments, forward mode included."""
    # In a loop and by the level, since every call of an op comes by here.
    reverse, forward = torch.is_grad_enabled(), forward_ad._current_level >= 0
    for argument in arguments:
        if isinstance(argument, Tensor):
            if reverse and argument.requires_grad:
                return True
            if forward and forward_ad.unpack_dual(argument).tangent is not None:
                return True
    return False


def _transformed() -> bool:
    return torch._C._are_functorch_transforms_active()


@contextmanager
def _hidden() -> Iterator[None]:
    """What is called within is not recorded by this level of autograd, but by outer transforms."""
    with ExitStack() as contexts:
        if _transformed():
            contexts.enter_context(torch.enable_grad())
            contexts.enter_context(forward_ad._set_fwd_grad_enabled(True))
        contexts.enter_context(torch._C._AutoDispatchBelowAutograd())
        yield


def register_composite(op: Op, composite: Op) -> Op:
    """Where a derivative is wanted, ``composite`` is called instead of the raw op.

    Args:
        op: what ``register`` returned.
        composite: takes the op's arguments, and is made of ops that have derivatives.

    Returns:
        The same as ``op`` for public functions to call. Where no derivative is wanted, it spares
        the dispatcher the way here and back, which takes some microseconds.
    """

    def below_autograd(*arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op(*arguments)

    def dispatched(*arguments: Any) -> Any:
        return composite(*arguments) if _is_recorded(arguments) else below_autograd(*arguments)

    library.impl(op._opname, dispatched, "Autograd")  # type: ignore[attr-defined]

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling() or _transformed() or _is_recorded(arguments):
            return op(*arguments)
        return below_autograd(*arguments)

    return call


def register_gradient(op: Op, save: Save, backward: Backward) -> Op:
    """Tell autograd how a raw op is differentiated, in reverse mode; forward mode is refused.

    Args:
        op: what ``register`` returned.
        save: called with autograd's context, the op's arguments and its results; keeps in the
            context what ``backward`` needs.
        backward: from the context and the gradients of the results, a tuple of those of the
            arguments. What is made of ops that have derivatives can be differentiated again.

    Returns:
        As ``register_composite``.
    """

    def forward(context: Any, *arguments: Any) -> Any:
        with _hidden():
            results = op(*arguments)
        save(context, arguments, results)
        return results

    # torch.autograd.Function is the same with a check in front, which refuses to be applied within
    # a transform of torch.func. At the dispatcher, one level of them at a time calls.
    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function = type(op._opname, (_SingleLevelFunction,), members)  # type: ignore[attr-defined]

    def recorded(*arguments: Any) -> Any:
        with enable_single_level_autograd_function() if _transformed() else nullcontext():
            return function.apply(*arguments)  # type: ignore[attr-defined]

    return register_composite(op, recorded)
