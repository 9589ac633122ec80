"""How well the scores separate normal from anomalous images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def image_auroc(scores: Sequence[float], anomalous: Sequence[bool]) -> float:
    """The area under the ROC curve of the image scores, in [0, 1]; ties count one half.

    Args:
        scores: one score per image; higher means more anomalous.
        anomalous: the truth, one per image.

    Raises:
        ValueError: if the lengths differ, a score is not finite, or one of the two classes is
            missing (the area is not defined then).
    """
    from sklearn.metrics import roc_auc_score

    if len(scores) != len(anomalous):
        raise ValueError(
            f"there are {len(scores)} scores for {len(anomalous)} labels; expected as many labels"
        )
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite, so that the images cannot be ranked")
    anomalous_count = sum(map(bool, anomalous))
    if anomalous_count == 0 or anomalous_count == len(anomalous):
        missing = "anomalous" if anomalous_count == 0 else "normal"
        raise ValueError(
            f"the AU-ROC needs normal and anomalous test images, but there is no {missing} image; "
            "add some to the test folder"
        )
    return float(roc_auc_score(np.asarray(anomalous, dtype=bool), np.asarray(scores)))
