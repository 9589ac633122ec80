"""The mean of the largest squared differences between teacher and student."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import torch
from torch import Tensor

from efficientad_ext._checks import check_same_feature_maps
from efficientad_ext._derivatives import register_gradient
from efficientad_ext._layout import alike_for_kernels, empty_like_layout
from efficientad_ext._registry import Backend, register


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _forward(
    backend: Backend, teacher: Tensor, student: Tensor, p_hard: float
) -> tuple[Tensor, Tensor]:
    loss, selection = _forward_fake(teacher, student, p_hard)
    teacher, student = alike_for_kernels(teacher, student)
    # The elements at or above a quantile that lies between two order statistics are those at or
    # above the upper one.
    rank = math.ceil(p_hard * (teacher.numel() - 1))
    workspace = backend.workspace("hard_feature_loss", teacher.device, teacher, student)
    backend.run(
        "hard_feature_loss", teacher.device, teacher, student, rank, loss, selection, workspace
    )
    return loss, selection


def _forward_fake(teacher: Tensor, student: Tensor, p_hard: float) -> tuple[Tensor, Tensor]:
    loss = teacher.new_empty((), dtype=_accumulator(teacher.dtype))
    selection = teacher.new_empty((2,), dtype=torch.float64)
    return loss, selection


def _gradient(
    backend: Backend, loss_gradient: Tensor, teacher: Tensor, student: Tensor, selection: Tensor
) -> Tensor:
    teacher, student = alike_for_kernels(teacher, student)
    gradient = empty_like_layout(student, tuple(student.shape))
    backend.run(
        "hard_feature_loss_gradient",
        teacher.device,
        teacher,
        student,
        loss_gradient.contiguous(),
        selection,
        gradient,
    )
    return gradient


def _gradient_fake(
    loss_gradient: Tensor, teacher: Tensor, student: Tensor, selection: Tensor
) -> Tensor:
    _, student = alike_for_kernels(teacher, student)
    return empty_like_layout(student, tuple(student.shape))


_raw = register(
    # The second result holds the threshold and the number of selected elements.
    "hard_feature_loss(Tensor teacher, Tensor student, float p_hard) -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_raw_gradient = register(
    "hard_feature_loss_gradient(Tensor loss_gradient, Tensor teacher, Tensor student, "
    "Tensor selection) -> Tensor",
    _gradient,
    _gradient_fake,
)


def _save(
    context: Any, arguments: tuple[Tensor, Tensor, float], results: tuple[Tensor, Tensor]
) -> None:
    teacher, student, _ = arguments
    context.save_for_backward(teacher, student, results[1])
    context.mark_non_differentiable(results[1])


def _backward(
    context: Any, loss_gradient: Tensor, _: Tensor
) -> tuple[Tensor | None, Tensor | None, None]:
    gradient = _raw_gradient(loss_gradient, *context.saved_tensors)
    return (
        -gradient if context.needs_input_grad[0] else None,
        gradient if context.needs_input_grad[1] else None,
        None,
    )


def _save_nothing(_context: Any, _arguments: tuple[Tensor, ...], _result: Tensor) -> None:
    pass


def _refuse(_context: Any, _upstream: Tensor) -> NoReturn:
    raise RuntimeError("the gradient of hard_feature_loss can be taken once, not twice")


_call = register_gradient(_raw, _save, _backward)
register_gradient(_raw_gradient, _save_nothing, _refuse)


def hard_feature_loss(teacher: Tensor, student: Tensor, p_hard: float = 0.999) -> Tensor:
    """The mean of the elements of D = (teacher - student)² at or above D's ``p_hard``-quantile.

    EfficientAD, section 3.2: the loss looks only at the features that the student imitates worst.
    The quantile is exact and interpolated linearly; D is neither sorted nor written to memory.

    The gradient is that of the mean of the selected elements (the selection itself is taken as
    fixed), and can be taken once, not twice. A NaN in the arguments gives a NaN.

    Args:
        teacher: feature maps, (N, C, H, W), float64, float32, float16 or bfloat16. Contiguous,
            channels-last and channel-sliced tensors are read in place.
        student: feature maps of the same shape, type and device.
        p_hard: the mining factor, in [0, 1]; 0 selects every element.

    Returns:
        A scalar: float64 for float64 arguments, else float32.

    Raises:
        TypeError: for other element types, or two different ones.
        ValueError: for other or different shapes, tensors without elements or on different devices,
            or ``p_hard`` outside [0, 1].
    """
    check_same_feature_maps("teacher", teacher, "student", student)
    if teacher.numel() == 0:
        raise ValueError(
            f"teacher has shape {tuple(teacher.shape)}; the mean of no elements is undefined"
        )
    if not 0 <= p_hard <= 1:
        raise ValueError(f"p_hard is {p_hard}; expected a value from 0 to 1")
    return _call(teacher, student, float(p_hard))[0]
