from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from efficientad.metrics import (
    image_auroc,
    image_average_precision,
    image_f1_max,
    image_roc_curve,
)

EVERY_METRIC = [image_auroc, image_average_precision, image_f1_max, image_roc_curve]


@dataclass(frozen=True)
class Scored:
    scores: np.ndarray
    anomalous: np.ndarray


@pytest.fixture(params=range(6))
def scored(request: pytest.FixtureRequest) -> Scored:
    """Scores of 60 images, rounded, so that there are ties."""
    random = np.random.default_rng()
    anomalous = random.permutation(60) < random.integers(1, 60)
    scores = (random.normal(size=60) + request.param * anomalous).round(1)
    assert len(set(scores)) < 60
    return Scored(scores, anomalous)


def test_auroc_is_the_share_of_pairs_in_the_right_order(scored: Scored):
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scored.scores[scored.anomalous]
        for low in scored.scores[~scored.anomalous]
    ]
    assert image_auroc(scored.scores, scored.anomalous) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_average_precision_sums_precision_over_the_steps_of_recall(scored: Scored):
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scored.scores), reverse=True):
        reported = scored.scores >= threshold
        precision = scored.anomalous[reported].mean()
        step = scored.anomalous[reported].sum() / scored.anomalous.sum() - recall
        total, recall = total + step * precision, recall + step
    found = image_average_precision(scored.scores, scored.anomalous)
    assert found == pytest.approx(total, abs=1e-12)


def test_f1_max_is_the_best_over_all_thresholds(scored: Scored):
    from sklearn.metrics import f1_score

    best = max(f1_score(scored.anomalous, scored.scores >= one) for one in scored.scores)
    assert image_f1_max(scored.scores, scored.anomalous) == pytest.approx(best, abs=1e-12)


def test_the_roc_curve_encloses_the_auroc(scored: Scored):
    x, y = image_roc_curve(scored.scores, scored.anomalous)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    area = np.trapezoid(y, x)
    assert area == pytest.approx(image_auroc(scored.scores, scored.anomalous), abs=1e-12)


def test_perfect_and_reversed_order():
    scores = [0.1, 0.2, 0.9, 0.8]
    right, wrong = [False, False, True, True], [True, True, False, False]
    assert image_auroc(scores, right) == 1.0
    assert image_auroc(scores, wrong) == 0.0
    assert image_average_precision(scores, right) == 1.0
    assert image_f1_max(scores, right) == 1.0
    assert image_f1_max(scores, wrong) == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", EVERY_METRIC)
@pytest.mark.parametrize(
    ("labels", "missing"), [([True] * 3, "normal"), ([False] * 3, "anomalous")]
)
def test_a_missing_class_is_an_error(metric, labels, missing):
    with pytest.raises(ValueError, match=f"no {missing} image"):
        metric([0.1, 0.2, 0.3], labels)


@pytest.mark.parametrize("metric", EVERY_METRIC)
def test_nan_and_different_lengths_are_errors(metric):
    with pytest.raises(ValueError, match="NaN"):
        metric([0.1, float("nan")], [True, False])
    with pytest.raises(ValueError, match="3 scores for 2 labels"):
        metric([0.1, 0.2, 0.3], [True, False])


@pytest.mark.parametrize("metric", EVERY_METRIC)
@pytest.mark.parametrize("label", ["good", 2, -1, 0.5, float("nan"), None, [True]])
def test_labels_that_are_neither_true_nor_false(metric, label):
    labels = np.array([True, False, None], dtype=object)
    labels[2] = label
    message = rf"a label is {re.escape(repr(label))}; expected True or 1 for an anomalous image"
    with pytest.raises(ValueError, match=message):
        metric([0.1, 0.2, 0.3], labels)


@pytest.mark.parametrize("metric", EVERY_METRIC)
@pytest.mark.parametrize("dtype", [int, float, np.uint8, object])
def test_labels_of_0_and_1(scored: Scored, metric, dtype):
    expected = metric(scored.scores, scored.anomalous)
    actual = metric(scored.scores, scored.anomalous.astype(dtype))
    np.testing.assert_array_equal(actual, expected)
