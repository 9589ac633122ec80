"""Where a data set's images and masks lie, and which of them a run works on.

One module for each layout; `find_dataset` and `find_test_set` recognise it.
"""

from efficientad.datasets.find import detect_format, find_dataset, find_test_set
from efficientad.datasets.ground_truth import GroundTruth, read_ground_truth
from efficientad.datasets.layout import (
    FORMATS,
    Dataset,
    Format,
    LabelledImage,
    LabelledSet,
    Saturation,
)
from efficientad.datasets.selection import (
    content_digest,
    find_photos,
    fingerprint,
    hold_out,
    report_skipped,
    split_validation,
    validation_count,
)

__all__ = [
    "FORMATS",
    "Dataset",
    "Format",
    "GroundTruth",
    "LabelledImage",
    "LabelledSet",
    "Saturation",
    "content_digest",
    "detect_format",
    "find_dataset",
    "find_photos",
    "find_test_set",
    "fingerprint",
    "hold_out",
    "read_ground_truth",
    "report_skipped",
    "split_validation",
    "validation_count",
]
