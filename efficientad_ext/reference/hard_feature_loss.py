"""Plain-torch reference of :func:`efficientad_ext.ops.hard_feature_loss`."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def hard_feature_loss(teacher: Tensor, student: Tensor, p_hard: float = 0.999) -> Tensor:
    """The mean of the squared differences from their ``p_hard``-quantile on, by sorting."""
    if teacher.dtype in (torch.float16, torch.bfloat16):
        teacher, student = teacher.float(), student.float()
    difference = (teacher - student).square().flatten()
    # An element is at or above the interpolated quantile exactly if it is at or above the upper one
    # of the two order statistics between which the quantile lies.
    rank = math.ceil(p_hard * (difference.numel() - 1))
    upper = difference.detach().sort().values[rank]
    return difference[~(difference < upper)].mean()
