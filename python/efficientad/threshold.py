"""A threshold from normal images alone, at a false-reject rate that is promised."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from efficientad.arguments import check_numbers
from efficientad_ext._checks import check_number

logger = logging.getLogger(__name__)

FALSE_REJECT_RATE = 0.01
CONFIDENCE = 0.95
RATE = "false-reject rate asked for"


def choose_threshold(
    scores: Sequence[float], false_reject_rate: float = FALSE_REJECT_RATE
) -> float:
    """The lowest threshold that keeps the false-reject rate, with 95 % confidence.

    The promise needs no assumption about how scores are distributed, only that the images to come
    are like these: if a threshold is the k-th smallest of n scores, the share of all normal images
    above it is distributed as Beta(n - k + 1, k) (Wilks, 1941; at most so where scores are tied).
    The lowest k for which that share exceeds the rate with a probability of 5 % or less is taken;
    where not even the highest score promises as much, the highest (see ``warn_if_too_few``).

    Args:
        scores: of held-out normal images, at least one.
        false_reject_rate: the share of normal images that may be rejected, between 0 and 1.

    Raises:
        TypeError: a score or the rate is no number.
        ValueError: there is no score, one is NaN, or the rate is not between 0 and 1.
    """
    false_reject_rate = check_rate(false_reject_rate)
    numbers = check_numbers("scores", scores)
    if not numbers or any(map(math.isnan, numbers)):
        raise ValueError("a threshold needs at least one score, and none that is NaN")
    return sorted(numbers)[rank(len(numbers), false_reject_rate) - 1]


def rank(count: int, false_reject_rate: float) -> int:
    """Which of so many scores, in rising order, is the threshold; the lowest is number 1."""
    ranks = np.arange(1, count + 1)
    promises = beta.sf(false_reject_rate, count - ranks + 1, ranks) <= 1 - CONFIDENCE
    return int(promises.argmax()) + 1 if promises.any() else count


def promised_rate(count: int, false_reject_rate: float) -> float:
    """The false-reject rate that so many scores can promise: the one asked for, or a higher one."""
    return max(false_reject_rate, float(1 - (1 - CONFIDENCE) ** (1 / count)))


def check_rate(false_reject_rate: float) -> float:
    """The rate as a float.

    Raises:
        TypeError: it is no number.
        ValueError: it is not between 0 and 1.
    """
    rate = check_number("false_reject_rate", false_reject_rate)
    if not 0 < rate < 1:
        raise ValueError(f"the false-reject rate is {rate:g}; expected a share between 0 and 1")
    return rate


def warn_if_too_few(count: int, false_reject_rate: float) -> None:
    """Says in the log what the highest of so many scores promises, where that is not the rate."""
    promised = promised_rate(count, false_reject_rate)
    if promised == false_reject_rate:
        return
    logger.warning(
        "%d validation image%s for a false-reject rate of %.3g %%: the threshold is the highest "
        "score, which promises %.3g %% (with %.0f %% confidence); for what was asked for, hold out "
        "%d images",
        count,
        " is too little" if count == 1 else "s are too few",
        100 * false_reject_rate,
        100 * promised,
        100 * CONFIDENCE,
        math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-false_reject_rate)),
    )
