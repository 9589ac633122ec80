"""Checks of what a model consists of, each with one sentence for whoever got it wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efficientad_ext._checks import check_number, check_type


def checked_number(name: str, value: Any) -> float:
    """A finite number, numpy's included, as Python's float.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN or infinite.
    """
    number = check_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}; expected a finite number")
    return number


def checked_numbers(name: str, values: Any, count: int) -> tuple[float, ...]:
    """So many finite numbers; errors as of `checked_number`, ValueError for another count."""
    check_type(name, values, Iterable, f"{count} finite numbers")
    numbers = tuple(checked_number(f"{name}[{place}]", one) for place, one in enumerate(values))
    if len(numbers) != count:
        raise ValueError(f"{name} is {numbers}; expected {count} finite numbers")
    return numbers


def check_tensor(
    name: str, tensor: Any, dtype: torch.dtype, shape: tuple[int, ...] | None = None
) -> None:
    """Raises TypeError or ValueError unless it is a finite tensor of this type and shape."""
    check_type(name, tensor, Tensor, "a torch.Tensor")
    if shape is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}")
    if tensor.dtype != dtype:
        raise ValueError(f"{name} has type {tensor.dtype}; expected {dtype}")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} has values that are NaN or infinite")


def checked_record(name: str, value: Any) -> Any:
    """A JSON value as a file gives it back: tuples are lists, numpy's numbers Python's.

    Raises:
        TypeError: something in it has no JSON, or the key of a dict is no str.
        ValueError: a number is NaN or infinite.
    """
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {key!r}; expected a str, as JSON has it")
        return {key: checked_record(f"{name}[{key!r}]", one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [checked_record(f"{name}[{place}]", one) for place, one in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return checked_number(name, value)
    check_type(name, value, str | int | None, "what JSON has: None, numbers, str, lists or dicts")
    return value
