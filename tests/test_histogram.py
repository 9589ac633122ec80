"""The histogram's bins: every image in one, and the threshold between two."""

from __future__ import annotations

import numpy as np
import pytest
from efficientad.histogram import score_histogram


@pytest.mark.parametrize("threshold", [-9.0, 0.3, 1.0, 40.0])
def test_bins_above_the_threshold_hold_what_it_reports(threshold: float):
    random = np.random.default_rng()
    normal = random.normal(size=70).round(1)
    anomalous = np.append(random.standard_cauchy(size=50), threshold)  # one lies on it
    found = score_histogram(normal.tolist(), anomalous.tolist(), threshold)
    above = found.edges[:-1] >= threshold
    assert threshold in found.edges
    for counts, scores in ((found.normal, normal), (found.anomalous, anomalous)):
        assert counts.sum() == len(scores)
        assert counts[above].sum() == (scores > threshold).sum()
        assert found.edges[0] < scores.min() <= scores.max() < found.edges[-1]
    assert len(found.normal) <= 44
    assert np.all(np.diff(found.edges) > 0)


@pytest.mark.parametrize("scores", [([0.3], []), ([], [0.3]), ([0.3], [0.3, 0.3])])
def test_one_score_that_is_the_threshold(scores: tuple[list[float], list[float]]):
    found = score_histogram(*scores, threshold=0.3)
    assert (found.normal.sum(), found.anomalous.sum()) == tuple(map(len, scores))
    assert found.edges[0] < 0.3 < found.edges[-1]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_an_outermost_score_that_is_the_threshold(threshold: float):
    found = score_histogram([0.0, 0.25], [1.0], threshold)
    assert found.edges[0] < 0.0
    assert found.edges[-1] > 1.0
    assert (found.normal.sum(), found.anomalous.sum()) == (2, 1)
    above = found.edges[:-1] >= threshold
    assert found.normal[above].sum() == (1 if threshold == 0 else 0)
    assert found.anomalous[above].sum() == (1 if threshold == 0 else 0)
