"""Figures from the papers: EfficientAD (WACV 2024) and PUAD (ICIP 2024, and its repository).

All are percentages, but for times. EfficientAD's are means of the three collections' means. The
GPU was an RTX A6000.
"""

from __future__ import annotations

from dataclasses import dataclass

from efficientad_ext.architecture import Size


@dataclass(frozen=True)
class Published:
    """What EfficientAD's paper reports for a network.

    Attributes:
        detection: mean image AU-ROC.
        localisation: mean AU-PRO.
        by_collection: mean image AU-ROC of each collection.
        milliseconds: for one image.
        images_per_second: in batches of 16.
    """

    detection: float
    localisation: float
    by_collection: dict[str, float]
    milliseconds: float
    images_per_second: float


EFFICIENTAD: dict[Size, Published] = {
    "small": Published(95.4, 92.5, {"MVTec AD": 98.8, "MVTec LOCO": 90.0, "VisA": 97.5}, 2.2, 614),
    "medium": Published(96.0, 93.3, {"MVTec AD": 99.1, "MVTec LOCO": 90.7, "VisA": 98.1}, 4.5, 269),
}

# PUAD's, on MVTec LOCO, with logical and structural anomalies pooled.
EFFICIENTAD_S_POOLED = {
    "breakfast_box": 83.75,
    "juice_bottle": 97.90,
    "pushpins": 96.84,
    "screw_bag": 71.28,
    "splicing_connectors": 96.33,
    "mean": 89.22,
}
PUAD_S = {
    "breakfast_box": 87.07,
    "juice_bottle": 99.68,
    "pushpins": 98.02,
    "screw_bag": 84.36,
    "splicing_connectors": 96.76,
    "mean": 93.18,
}
PUAD_MEAN: dict[Size, float] = {"small": PUAD_S["mean"], "medium": 94.44}

# EfficientAD-M, mean image AU-ROC.
BY_A = {0.5: 95.9, 0.8: 95.9, 0.9: 96.0, 0.95: 95.9, 0.98: 95.9, 0.99: 95.8}
BY_B = {0.95: 95.8, 0.98: 95.9, 0.99: 96.0, 0.995: 96.0, 0.998: 95.9, 0.999: 95.9}
BY_P_HARD = {0.0: 94.9, 0.9: 94.9, 0.99: 95.7, 0.999: 96.0, 0.9999: 95.8, 0.99999: 95.7}

# EfficientAD-S, mean image AU-ROC: PDN, + map normalisation, + hard feature loss, + penalty.
CUMULATIVE = (93.2, 94.0, 95.0, 95.4)
