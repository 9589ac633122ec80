"""The squared difference of two stacks of feature maps, averaged over channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from efficientad_ext._checks import check_same_feature_maps
from efficientad_ext._derivatives import register_gradient
from efficientad_ext._layout import alike_for_kernels
from efficientad_ext._registry import Backend, register


def _implementation(backend: Backend, a: Tensor, b: Tensor) -> Tensor:
    batch, channels, height, width = a.shape
    output = a.new_empty((batch, 1, height, width))
    if output.numel() == 0:
        return output
    if channels == 0:
        return output.fill_(float("nan"))
    a, b = alike_for_kernels(a, b)
    backend.run("squared_difference_map", a.device, a, b, output)
    return output


def _fake(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty((a.shape[0], 1, a.shape[2], a.shape[3]))


_raw = register("squared_difference_map(Tensor a, Tensor b) -> Tensor", _implementation, _fake)


def _save(context: Any, arguments: tuple[Tensor, Tensor], _result: Tensor) -> None:
    context.save_for_backward(*arguments)


def _backward(context: Any, output_gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = context.saved_tensors
    gradient = (a - b) * (output_gradient * (2 / max(a.shape[1], 1)))
    return (
        gradient if context.needs_input_grad[0] else None,
        -gradient if context.needs_input_grad[1] else None,
    )


_call = register_gradient(_raw, _save, _backward)


def squared_difference_map(a: Tensor, b: Tensor) -> Tensor:
    """The mean over channels of (a - b)².

    The local map of teacher and student, or the global map of autoencoder and student (EfficientAD,
    sections 3.2 and 3.3). The difference is never written to memory.

    Args:
        a: feature maps, (N, C, H, W), float64, float32, float16 or bfloat16. Contiguous,
            channels-last and channel-sliced tensors are read in place.
        b: feature maps of the same shape, type and device.

    Returns:
        (N, 1, H, W), the type of the arguments; accumulated in float32 (float64 for float64).

    Raises:
        TypeError: for other element types, or two different ones.
        ValueError: for other or different shapes, or tensors on different devices.
    """
    check_same_feature_maps("a", a, "b", b)
    return _call(a, b)
