"""Checks of settings and arguments, each with one sentence for whoever got it wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch

from efficientad_ext._checks import check_number, check_type, check_whole

Config = TypeVar("Config")


def config_or_default(name: str, config: Config | None, kind: type[Config]) -> Config:
    """``config``, or the defaults if it is None; TypeError for anything but a ``kind``."""
    if config is None:
        return kind()
    check_type(name, config, kind, f"a {kind.__name__}")
    return config


def check_list(name: str, values: object, words: str) -> None:
    """Raises TypeError unless it is a list or tuple, not a single name; ``words``: of what."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} is {values!r}; expected a list of {words}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless ``value`` is one of the choices, of which there are several."""
    if value not in choices:
        *others, last = choices
        raise ValueError(f"{name} is {value!r}; expected {', '.join(others)} or {last}")


def set_whole_numbers(settings: object, **least: int) -> None:
    """Makes attributes of a frozen dataclass ints, see `check_whole`.

    Args:
        settings: the dataclass.
        least: the least value of each attribute, by its name.
    """
    for name, value in least.items():
        number = check_whole(name, getattr(settings, name), value)
        object.__setattr__(settings, name, number)


def check_numbers(name: str, values: Iterable[float]) -> tuple[float, ...]:
    """``values`` as floats, see `check_number`."""
    check_type(name, values, Iterable, "numbers")
    return tuple(check_number(f"one of {name}", value) for value in values)


def check_device(device: str | torch.device) -> torch.device:
    """``device`` as torch's; ValueError if it is none, or not on this machine."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(f"{str(device)!r} is not a device; expected cpu, cuda or cuda:NUMBER")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {device} here; use cpu")
    return found
