"""How well the images' scores separate normal from anomalous images.

Every function takes one score per image, higher meaning more anomalous, and the truth, one per
image, as booleans or as 0 and 1. All raise ValueError if the lengths differ, a score is not finite,
a label is something else, or one of the two classes is missing: the figure is not defined then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Truth: TypeAlias = NDArray[np.bool_]


def image_auroc(scores: Sequence[float], anomalous: Sequence[bool]) -> float:
    """The area under the ROC curve, in [0, 1]; ties count one half."""
    from sklearn.metrics import roc_auc_score

    values, truth = _checked("AU-ROC", scores, anomalous)
    return float(roc_auc_score(truth, values))


def image_average_precision(scores: Sequence[float], anomalous: Sequence[bool]) -> float:
    """The area under the precision-recall curve as a sum of steps, without interpolation."""
    from sklearn.metrics import average_precision_score

    values, truth = _checked("average precision", scores, anomalous)
    return float(average_precision_score(truth, values))


def image_f1_max(scores: Sequence[float], anomalous: Sequence[bool]) -> float:
    """The best F1 that any threshold on the scores gives, in (0, 1]."""
    return float(image_f1_curve(scores, anomalous)[1].max())


def image_f1_curve(scores: Sequence[float], anomalous: Sequence[bool]) -> tuple[Floats, Floats]:
    """F1 by the lowest score that is reported: every score once, falling, and its F1."""
    values, truth = _checked("best F1", scores, anomalous)
    order = np.argsort(-values)
    values, truth = values[order], truth[order]
    found = np.cumsum(truth)
    reported = np.arange(1, len(values) + 1)
    # Images of equal score are reported together.
    last_of_equals = np.append(values[1:] != values[:-1], True)
    f1 = 2 * found / (reported + found[-1])
    return values[last_of_equals], f1[last_of_equals]


def image_roc_curve(scores: Sequence[float], anomalous: Sequence[bool]) -> tuple[Floats, Floats]:
    """The corners of the ROC curve: false positive rates and true positive rates, from 0 to 1."""
    from sklearn.metrics import roc_curve

    values, truth = _checked("ROC curve", scores, anomalous)
    false_positive_rate, true_positive_rate, _ = roc_curve(truth, values)
    return false_positive_rate, true_positive_rate


def _checked(name: str, scores: Sequence[float], anomalous: Sequence[bool]) -> tuple[Floats, Truth]:
    if len(scores) != len(anomalous):
        raise ValueError(
            f"there are {len(scores)} scores for {len(anomalous)} labels; expected as many labels"
        )
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a score is NaN or infinite, so that the images cannot be ranked")
    labels = np.asarray(anomalous)
    unknown = [label for label in labels.tolist() if label not in (0, 1)]
    if unknown:
        raise ValueError(
            f"a label is {unknown[0]!r}; expected True or 1 for an anomalous image, False or 0 for "
            "a normal one"
        )
    truth = labels.astype(np.bool_)
    if truth.all() or not truth.any():
        missing = "normal" if truth.any() else "anomalous"
        raise ValueError(
            f"the {name} needs normal and anomalous images, but there is no {missing} image; "
            "add some"
        )
    return values, truth
