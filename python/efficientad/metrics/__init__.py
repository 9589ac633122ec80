"""How well scores and maps separate what is normal from what is anomalous."""

from efficientad.metrics.images import (
    image_auroc,
    image_average_precision,
    image_f1_max,
    image_roc_curve,
)
from efficientad.metrics.pixels import PixelScores

__all__ = [
    "PixelScores",
    "image_auroc",
    "image_average_precision",
    "image_f1_max",
    "image_roc_curve",
]
