"""A teacher that a distillation starts from instead of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from efficientad.checkpoint import Settings
from efficientad.teacher import Teacher, load_teacher, teacher_record
from efficientad.widening import widen
from efficientad_ext.architecture import Size


@dataclass(frozen=True)
class InitialTeacher:
    """A teacher, and how it was made.

    Attributes:
        teacher: its weights.
        made: the record in its file; empty where it was not made by ``distill``.
    """

    teacher: Teacher
    made: Mapping[str, int | str]

    @property
    def crops(self) -> int:
        """How many crops it was trained on, those of its own initial teacher included.

        A run that starts from it goes on with the crops behind these.
        """
        before = int(self.made.get("crops before", 0))
        return before + int(self.made.get("steps", 0)) * int(self.made.get("batch size", 0))

    @property
    def record(self) -> Settings:
        """For the record of a run that starts from it."""
        return {"initial teacher": self.teacher.fingerprint, "crops before": self.crops}

    @torch.no_grad()
    def put_into(self, network: nn.Module, size: Size) -> None:
        """Gives ``pdn(size, 384)``, which has initial weights, the teacher's weights."""
        if self.teacher.size == size:
            network.load_state_dict(self.teacher.weights)
        else:
            widen(network.state_dict(), self.teacher.weights)

    def check_held_out(self, seed: int, photos: Settings) -> None:
        """Raises ValueError where the photos that a run holds out are not those held out before.

        Args:
            seed: of the run.
            photos: its record of the photos.
        """
        same_photos = self.made.get("images' fingerprint") == photos["images' fingerprint"]
        if same_photos and self.made["seed"] != seed:
            raise ValueError(
                f"{self.teacher.source} has learned from these photos with the seed "
                f"{self.made['seed']}, and from those that the seed {seed} would hold out; give "
                f"--seed {self.made['seed']}"
            )


def load_initial_teacher(path: Path, size: Size) -> InitialTeacher:
    """Reads the teacher that one of this size is to start from; a medium one may from a small one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a teacher of this size, nor a small one.
    """
    try:
        teacher = load_teacher(path, size)
    except ValueError as error:
        if size == "small":
            raise
        try:
            teacher = load_teacher(path, "small")
        except ValueError:
            raise error from None
    return InitialTeacher(teacher, teacher_record(path))
