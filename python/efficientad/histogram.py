"""How many images have which scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST_BINS, _MOST_BINS = 8, 40


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Numbers of normal and of anomalous images by score.

    Attributes:
        edges: (bins + 1,), rising; one of them is the threshold. A bin holds its upper edge, not
            its lower one, so that the bins above the threshold hold just what it reports.
        normal: (bins,), numbers of images.
        anomalous: likewise.
        threshold: above it an image is reported.
    """

    edges: NDArray[np.float64]
    normal: NDArray[np.int64]
    anomalous: NDArray[np.int64]
    threshold: float


def score_histogram(
    normal: Sequence[float], anomalous: Sequence[float], threshold: float
) -> ScoreHistogram:
    """The histogram of finite scores, with room for all of them between its outermost edges."""
    scores = np.array([*normal, *anomalous, threshold])
    low, high = float(scores.min()), float(scores.max())
    width = (high - low or 1.0) / min(_MOST_BINS, max(_FEWEST_BINS, len(scores) // 5))
    # One bin more than needed at each end, for scores that lie on an edge but for rounding.
    first = np.ceil((low - threshold) / width) - 2
    last = np.ceil((high - threshold) / width) + 1
    edges = threshold + width * np.arange(first, last + 1)
    return ScoreHistogram(edges, _counts(normal, edges), _counts(anomalous, edges), threshold)


def _counts(scores: Sequence[float], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    # Of numpy's bins, the lower edge is a part; mirrored, the upper one is.
    return np.histogram(-np.array(scores, dtype=np.float64), -edges[::-1])[0][::-1]
