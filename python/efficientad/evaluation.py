"""Scoring a labelled test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientad.datasets import LabelledImage, find_test_images, report_skipped
from efficientad.metrics import image_auroc
from efficientad.progress import with_progress
from efficientad_ext.detector import Detector


@dataclass(frozen=True)
class ScoredImage:
    """A test image with its score and verdict."""

    image: LabelledImage
    score: float
    verdict: bool


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a test set.

    Attributes:
        auroc: image AU-ROC over all test images, in [0, 1].
        auroc_by_defect: the same for the good images and one kind of defect.
        detected: share of the anomalous images with a score above the model's threshold.
        false_alarms: share of the good images with a score above it.
        scored: every readable image with its score.
        skipped: images that could not be read.
    """

    auroc: float
    auroc_by_defect: dict[str, float]
    detected: float
    false_alarms: float
    scored: tuple[ScoredImage, ...]
    skipped: tuple[Path, ...]

    def summary(self) -> dict[str, Any]:
        """The figures as JSON values, with one entry per image."""
        return {
            "image_auroc": self.auroc,
            "image_auroc_by_defect": self.auroc_by_defect,
            "detected": self.detected,
            "false_alarms": self.false_alarms,
            "images": [
                {
                    "path": str(scored.image.path),
                    "label": scored.image.label,
                    "score": scored.score,
                    "verdict": "anomalous" if scored.verdict else "normal",
                }
                for scored in self.scored
            ],
            "skipped": [str(path) for path in self.skipped],
        }


def evaluate(detector: Detector, data: Path | str) -> Evaluation:
    """Scores the test images of a data folder in the layout of MVTec AD.

    Unreadable images are reported in the log, left out, and listed in the result.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if there are no readable test images of both classes.
    """
    scored: list[ScoredImage] = []
    skipped: list[Path] = []
    for image in with_progress("evaluation", "image", find_test_images(data)):
        try:
            detection = detector(image.path)
        except (ValueError, OSError) as error:
            report_skipped(image.path, error)
            skipped.append(image.path)
        else:
            verdict = bool(detection.verdict[0])
            scored.append(ScoredImage(image, float(detection.score[0]), verdict))
    return summarize(scored, skipped)


def summarize(scored: Sequence[ScoredImage], skipped: Sequence[Path] = ()) -> Evaluation:
    """The figures of a set of scored images.

    Raises:
        ValueError: if there are no normal, or no anomalous images.
    """
    good = [one for one in scored if not one.image.anomalous]
    anomalous = [one for one in scored if one.image.anomalous]

    def auroc(defective: Sequence[ScoredImage]) -> float:
        both = [*good, *defective]
        return image_auroc([one.score for one in both], [one.image.anomalous for one in both])

    return Evaluation(
        auroc=auroc(anomalous),
        auroc_by_defect={
            label: auroc([one for one in anomalous if one.image.label == label])
            for label in sorted({one.image.label for one in anomalous})
        },
        detected=_share_of_alarms(anomalous),
        false_alarms=_share_of_alarms(good),
        scored=tuple(scored),
        skipped=tuple(skipped),
    )


def _share_of_alarms(images: Sequence[ScoredImage]) -> float:
    return sum(one.verdict for one in images) / len(images)
