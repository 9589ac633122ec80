"""Checks that the public ops share, each with one sentence for whoever got it wrong."""

from __future__ import annotations

import operator
from numbers import Real
from types import UnionType
from typing import SupportsIndex

import torch
from torch import Tensor

FLOATING_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_type(name: str, value: object, kind: type | UnionType, expected: str) -> None:
    """Raise TypeError unless ``value`` is of that type, which ``expected`` describes."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}; expected {expected}")


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` is a tensor of a floating type."""
    check_type(name, tensor, Tensor, "a torch.Tensor")
    if tensor.dtype not in FLOATING_TYPES:
        raise TypeError(f"{name} is {tensor.dtype}; expected float64, float32, float16 or bfloat16")


def check_feature_maps(name: str, tensor: Tensor) -> None:
    """Raise unless ``tensor`` is a floating (N, C, H, W) tensor."""
    check_floating(name, tensor)
    if tensor.dim() != 4:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected (N, C, H, W)")


def check_alike(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless two tensors agree in element type and device."""
    if tensor.dtype != other.dtype:
        raise TypeError(
            f"{name} is {tensor.dtype} and {other_name} is {other.dtype}; expected the same type"
        )
    if tensor.device != other.device:
        raise ValueError(
            f"{name} is on {tensor.device} and {other_name} is on {other.device}; "
            "expected the same device"
        )


def check_same_feature_maps(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless two tensors are floating (N, C, H, W) of one shape, element type and device."""
    check_feature_maps(name, tensor)
    check_feature_maps(other_name, other)
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)} and {other_name} has shape "
            f"{tuple(other.shape)}; expected the same shape"
        )
    check_alike(name, tensor, other_name, other)


def check_whole(name: str, value: SupportsIndex, least: int | None = None) -> int:
    """``value``, of Python's or numpy's integers, as an int.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than ``least``.
    """
    try:
        number = int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected a whole number") from None
    if least is not None and number < least:
        raise ValueError(f"{name} is {number}; expected at least {least}")
    return number


def check_number(name: str, value: float) -> float:
    """``value``, of Python's or numpy's numbers, as a float; TypeError for anything else."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; expected a number")
    return float(value)


def check_size(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """``size`` as a (height, width) of positive whole numbers, or ValueError."""
    try:
        height, width = map(operator.index, size)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {size!r}; expected (height, width) in whole numbers") from None
    if height < 1 or width < 1:
        raise ValueError(f"{name} is {(height, width)}; expected a positive height and width")
    return height, width
