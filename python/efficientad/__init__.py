"""EfficientAD: training, calibration, evaluation and the command line.

Detection alone needs only :mod:`efficientad_ext`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efficientad.backbones import load_backbone
    from efficientad.distillation import DistillationConfig, distill
    from efficientad.evaluation import Evaluation, evaluate
    from efficientad.teacher import Teacher, default_teacher, load_teacher, random_teacher
    from efficientad.training import TrainingConfig, train

__all__ = [
    "DistillationConfig",
    "Evaluation",
    "Teacher",
    "TrainingConfig",
    "default_teacher",
    "distill",
    "evaluate",
    "load_backbone",
    "load_teacher",
    "random_teacher",
    "train",
]

# Where each public name is defined. They are imported when first used, so that the command line
# answers --help without waiting for torch.
_MODULES = {
    "DistillationConfig": "distillation",
    "Evaluation": "evaluation",
    "Teacher": "teacher",
    "TrainingConfig": "training",
    "evaluate": "evaluation",
    "distill": "distillation",
    "load_backbone": "backbones",
    "default_teacher": "teacher",
    "load_teacher": "teacher",
    "random_teacher": "teacher",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
