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
        assert counts[0] == counts[-1] == 0
    assert len(found.normal) <= 44
    assert np.all(np.diff(found.edges) > 0)


@pytest.mark.parametrize("scores", [([0.3], []), ([], [0.3]), ([0.3], [0.3, 0.3])])
def test_one_score_that_is_the_threshold(scores: tuple[list[float], list[float]]):
    found = score_histogram(*scores, threshold=0.3)
    assert (found.normal.sum(), found.anomalous.sum()) == tuple(map(len, scores))
    assert found.edges[0] < 0.3 < found.edges[-1]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_outermost_bins_are_empty_where_the_threshold_is_an_outermost_score(threshold: float):
    found = score_histogram([0.0, 0.25], [1.0], threshold)
    for counts, total in ((found.normal, 2), (found.anomalous, 1)):
        assert counts[0] == counts[-1] == 0
        assert counts.sum() == total
