"""What the convolutions of trainings and distillations compute in."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias, get_args

import torch

from efficientad.arguments import check_choice
from efficientad_ext import build_config

logger = logging.getLogger(__name__)

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""That of a device as `precision_on` chooses it, or one by name."""

_OLDEST_CAPABILITY = (8, 0)


def check_precision(precision: str) -> None:
    """Raises ValueError if it is none."""
    check_choice("precision", precision, get_args(Precision))


def precision_on(device: torch.device, precision: Precision) -> Literal["float32", "bfloat16"]:
    """What to compute in on a device.

    "auto" is bfloat16 where that is faster: on CUDA from compute capability 8.0 on, and on
    processors with AMX. It is float32 elsewhere. For either this package has convolutions of its
    own on CPUs. On processors that do not multiply bfloat16 as such, torch computes it without its
    fast convolutions, many times slower than float32: who asks for it there is told.
    """
    if precision == "auto":
        return "bfloat16" if _bfloat16_is_faster(device) else "float32"
    if precision == "bfloat16" and not _multiplies_bfloat16(device):
        logger.warning(
            "%s has no multiplications in bfloat16 that this package knows of, without which they "
            "can take thirty times as long as in float32; choose the precision float32",
            "this processor" if device.type == "cpu" else torch.cuda.get_device_name(device),
        )
    return precision


def convolutions_in(precision: Precision, device: torch.device) -> torch.autocast:
    """A context whose convolutions are computed in a precision other than "auto".

    torch's cache of weights is off: it is emptied behind the outermost autocast alone, and would
    give a training within another one the weights of its first step.
    """
    enabled = precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def _bfloat16_is_faster(device: torch.device) -> bool:
    if device.type == "cuda":
        return _multiplies_bfloat16(device)
    return "amx_bf16" in build_config()["cpu_instruction_sets"]


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _OLDEST_CAPABILITY
    return "avx512_bf16" in build_config()["cpu_instruction_sets"]
