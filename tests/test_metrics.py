from __future__ import annotations

import numpy as np
import pytest
from efficientad.metrics import image_auroc


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    random = np.random.default_rng(8)
    scores = random.normal(size=60).round(1)  # rounded, so that there are ties
    anomalous = random.random(60) < 0.4
    assert len(set(scores)) < 60
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scores[anomalous]
        for low in scores[~anomalous]
    ]
    assert image_auroc(list(scores), list(anomalous)) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_perfect_and_reversed_order():
    assert image_auroc([0.1, 0.2, 0.9, 0.8], [False, False, True, True]) == 1.0
    assert image_auroc([0.1, 0.2, 0.9, 0.8], [True, True, False, False]) == 0.0


@pytest.mark.parametrize(
    ("labels", "missing"), [([True] * 3, "normal"), ([False] * 3, "anomalous")]
)
def test_a_missing_class_is_an_error(labels, missing):
    with pytest.raises(ValueError, match=f"no {missing} image"):
        image_auroc([0.1, 0.2, 0.3], labels)


def test_nan_and_different_lengths_are_errors():
    with pytest.raises(ValueError, match="NaN"):
        image_auroc([0.1, float("nan")], [True, False])
    with pytest.raises(ValueError, match="3 scores for 2 labels"):
        image_auroc([0.1, 0.2, 0.3], [True, False])
