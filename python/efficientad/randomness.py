"""Randomness without state: every draw is a function of the seed, its purpose and its index.

A resumed run therefore needs no saved generator, and the order in which background threads happen
to work changes nothing.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a random number is for; each purpose has a sequence of its own."""

    RANDOM_TEACHER = 0
    INITIAL_WEIGHTS = 1
    VALIDATION_SPLIT = 2
    TRAINING_ORDER = 3
    AUGMENTATION = 4
    PENALTY_ORDER = 5
    PENALTY_GRAYSCALE = 6
    DROPOUT = 7
    TEXTURES = 8
    HELD_OUT_SPLIT = 9
    DISTILLATION_ORDER = 10
    DISTILLATION_CROP = 11
    STATISTICS_CROP = 12
    TEACHER_WEIGHTS = 13
    PROCEDURAL_IMAGE = 14


def generator(seed: int, purpose: Purpose, index: int = 0) -> np.random.Generator:
    """A numpy generator that depends on nothing but its three arguments (all ≥ 0)."""
    sequence = np.random.SeedSequence([seed, int(purpose), index])
    return np.random.Generator(np.random.Philox(sequence))


def torch_seed(seed: int, purpose: Purpose, index: int = 0) -> int:
    """What to seed a ``torch.Generator`` with, a function of the three arguments (all ≥ 0).

    torch's global generator is the caller's, and every thread's: nothing is drawn from it.
    """
    return int(generator(seed, purpose, index).integers(2**63))


def shuffled_index(seed: int, purpose: Purpose, count: int, position: int) -> int:
    """An index below ``count``, by its position in an endless sequence.

    The sequence consists of rounds; in each of them every index comes once, in a new random order.
    """
    round_number, offset = divmod(position, count)
    return int(_permutation(seed, purpose, count, round_number)[offset])


@lru_cache(maxsize=4)
def _permutation(seed: int, purpose: Purpose, count: int, round_number: int) -> NDArray[np.int64]:
    return generator(seed, purpose, round_number).permutation(count)
