"""The threshold keeps the false-reject rate that it promises."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from efficientad.threshold import choose_threshold, promised_rate, rank, warn_if_too_few
from scipy.stats import norm


@pytest.mark.parametrize(("count", "rate"), [(299, 0.01), (500, 0.02), (1000, 0.05)])
def test_rate_is_kept_in_95_of_100_samples(count: int, rate: float):
    random = np.random.default_rng()
    samples = 2000
    kept = 0
    for _ in range(samples):
        threshold = choose_threshold(random.standard_normal(count).tolist(), rate)
        kept += norm.sf(threshold) <= rate
    # Five standard deviations of a share of 95 %: fails by chance once in three million runs.
    assert kept / samples > 0.95 - 5 * (0.95 * 0.05 / samples) ** 0.5


def test_no_lower_threshold_would_do():
    """Clopper and Pearson's bound, from the other side: k - 1 is too low a rank."""
    scores = np.random.default_rng().permutation(1000).astype(float).tolist()
    threshold = choose_threshold(scores, 0.05)
    above = 999 - threshold
    # The probability of so few or fewer rejects among 1000, each with probability 5 %.
    binomial = np.random.default_rng(0).binomial(1000, 0.05, 200_000)
    assert (binomial <= above).mean() < 0.05 < (binomial <= above + 2).mean()


def test_too_few_scores_give_the_highest(caplog: pytest.LogCaptureFixture):
    scores = np.random.default_rng().standard_normal(76).tolist()
    assert choose_threshold(scores, 0.01) == max(scores)
    with caplog.at_level(logging.WARNING):
        warn_if_too_few(76, 0.01)
    assert "76 validation images are too few for a false-reject rate of 1 %" in caplog.text
    assert "hold out 299 images" in caplog.text


def test_the_rate_promised_is_that_asked_for_from_299_scores_on():
    """The highest of n scores lies below a share r of all with the probability (1 - r)^n."""
    assert promised_rate(299, 0.01) == 0.01
    assert 0.01 < promised_rate(298, 0.01) < 0.0101
    assert (1 - promised_rate(76, 0.01)) ** 76 == pytest.approx(0.05)
    assert (rank(298, 0.01), rank(299, 0.01), rank(1000, 0.05)) == (298, 299, 962)


def test_enough_scores_are_worth_no_warning(caplog: pytest.LogCaptureFixture):
    warn_if_too_few(299, 0.01)
    assert caplog.text == ""


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_no_share(rate: float):
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        choose_threshold([1.0], rate)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")]])
def test_scores_that_cannot_be_ranked(scores: list[float]):
    with pytest.raises(ValueError, match="at least one score, and none that is NaN"):
        choose_threshold(scores)
