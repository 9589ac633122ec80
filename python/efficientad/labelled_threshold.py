"""A threshold from labelled images: the one with the best F1, and which images it is from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from efficientad.datasets import Format, content_digest, find_test_set, report_skipped
from efficientad.metrics.images import image_f1_curve
from efficientad.progress import with_progress
from efficientad.threshold import RATE
from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image
from efficientad_ext.model_file import Model

COUNT = "labelled images for the threshold"
FINGERPRINT = "labelled images' fingerprint"

logger = logging.getLogger(__name__)


def best_f1_threshold(scores: Sequence[float], anomalous: Sequence[bool]) -> tuple[float, float]:
    """The threshold whose verdicts, score above threshold, have the best F1; and that F1.

    It lies halfway between the lowest score that is reported and the next one below. Where several
    places are equally good, the highest is taken, which rejects the fewest normal images; where it
    is best to report every image, the number next below the lowest score.

    Args:
        scores: one per image, higher meaning more anomalous.
        anomalous: the truth, one per image.

    Raises:
        ValueError: the lengths differ, a score is NaN or infinite, or there is no normal or no
            anomalous image.
    """
    levels, f1 = image_f1_curve(scores, anomalous)
    best = int(f1.argmax())
    reported = float(levels[best])
    if best + 1 == len(levels):
        return float(np.nextafter(reported, -np.inf)), float(f1[best])
    kept = float(levels[best + 1])
    halfway = kept / 2 + reported / 2
    # Between neighbouring numbers there is none, and halfway may round to the upper one.
    return (halfway if kept <= halfway < reported else kept), float(f1[best])


def calibrate_threshold(
    model: Model,
    data: Path | str,
    device: str | torch.device = "cpu",
    *,
    layout: Format | None = None,
) -> tuple[Model, float]:
    """The model with the threshold of the best F1 on labelled images, and that F1.

    Nothing else changes: quantiles, PUAD's statistics, and the threshold for maps stay. What the
    threshold is from is put down in ``model.training``, for `warn_if_flattered`.

    Args:
        model: a trained and calibrated model.
        data: the folder of the labelled images; see `datasets.find_test_set` for the layouts.
            Unreadable ones are reported in the log and left out.
        device: where to compute.
        layout: the folder's layout; None to recognise it.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if there are no readable normal or no anomalous images, or the model gives NaN.
    """
    detector = Detector(model, device)
    paths, scores, anomalous = [], [], []
    for image in with_progress("threshold", "image", find_test_set(data, layout).images):
        try:
            pixels = load_image(image.path)
        except (ValueError, OSError) as error:
            report_skipped(image.path, error)
            continue
        paths.append(image.path)
        scores.append(float(detector(pixels).score[0]))
        anomalous.append(image.anomalous)
    if not paths:
        raise ValueError(f"none of the labelled images in {data} can be read; see above for why")
    threshold, f1 = best_f1_threshold(scores, anomalous)
    training = {**model.training, COUNT: len(paths), FINGERPRINT: _fingerprint(paths)}
    training.pop(RATE, None)
    return dataclasses.replace(model, threshold=threshold, training=training), f1


def without_labelled_images(training: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a model whose threshold is not, or no longer, from labelled images."""
    return {name: value for name, value in training.items() if name not in (COUNT, FINGERPRINT)}


def warn_if_flattered(model: Model, tested: Sequence[Path]) -> None:
    """Says in the log if the images of a test are those that the threshold was chosen on.

    Told by the files' contents, all of them together: a test on some of the images, or on more,
    passes unnoticed.
    """
    known = model.training.get(FINGERPRINT)
    if known is not None and known == _fingerprint(tested):
        logger.warning(
            "the threshold was chosen on these very images, so that what is said of its verdicts "
            "flatters; evaluate on other images"
        )


def _fingerprint(paths: Iterable[Path]) -> str:
    """A short digest of the files' contents, wherever they lie and whatever their order."""
    digests = sorted(map(content_digest, paths))
    return sha256(b"".join(digests)).hexdigest()[:16]
