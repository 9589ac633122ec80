"""Which images may calibrate a model: none that it was trained on, told by their contents."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from efficientad.datasets import content_digest, find_dataset, hold_out, validation_count
from efficientad.randomness import Purpose
from efficientad.run_images import find_normal_images, readable_images
from efficientad_ext.model_file import Model

logger = logging.getLogger(__name__)

CONTENTS = "training images' contents"

# Of a digest, in hexadecimal digits: one in 28 million new images is taken for one of ten million
# that were trained on, and does not calibrate.
_DIGITS = 12


def contents_of(images: Iterable[Path]) -> list[str]:
    """Short digests of the images' files, sorted: what ``Model.training`` knows them by."""
    return sorted(map(_short_digest, images))


def find_calibration_images(
    model: Model, data: Path, seed: int | None, puad: bool
) -> tuple[tuple[Path, ...] | None, tuple[Path, ...]]:
    """The files for PUAD's statistics, None without PUAD, and those to calibrate with.

    With validation images of its own, a data set's training images are for PUAD's statistics.
    Otherwise the images that the model was trained on are, if they are most of them, and the others
    calibrate; or else a tenth is held out to calibrate with, and without PUAD all are. What the
    model was trained on never calibrates, and where that is not known, as of models of older
    versions, the images are split as for a training.

    Args:
        model: what is to be calibrated.
        data: the folder of the normal images.
        seed: of what is held out; None for that of the model's training.
        puad: whether the model is to have PUAD's second score.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if there is nothing to calibrate with.
    """
    if seed is None:
        seed = int(model.training.get("seed", 0))
    dataset = find_dataset(data)
    if not dataset.validation and CONTENTS not in model.training:
        train, validation = find_normal_images(data, model.input_size, seed)
        return (train.paths if puad else None), validation
    images = readable_images(dataset.train, model.input_size, "training", data)
    if dataset.validation:
        found = readable_images(dataset.validation, model.input_size, "validation", data)
        trained_on, validation = _split_trained_on(model, found)
        if trained_on:
            logger.warning(
                "left out %d validation images that the model was trained on", len(trained_on)
            )
        _require_untrained(validation, data)
        return (images if puad else None), validation
    trained_on, others = _split_trained_on(model, images)
    _require_untrained(others, data)
    if puad and len(trained_on) < len(others):
        count = min(validation_count(len(images)), len(others))
        rest, others = hold_out(others, count, seed, Purpose.VALIDATION_SPLIT)
        trained_on = tuple(sorted((*trained_on, *rest)))
    return (trained_on if puad else None), others


def _split_trained_on(
    model: Model, images: Sequence[Path]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The images that the model was trained on, and the others, in their order."""
    known = set(model.training.get(CONTENTS, ()))
    trained_on = {path for path in images if _short_digest(path) in known}
    return (
        tuple(path for path in images if path in trained_on),
        tuple(path for path in images if path not in trained_on),
    )


def _require_untrained(paths: Sequence[Path], data: Path) -> None:
    if not paths:
        raise ValueError(
            f"the model was trained on all the images in {data} that could calibrate it; add "
            "normal images that it was not trained on"
        )


def _short_digest(path: Path) -> str:
    return content_digest(path).hex()[:_DIGITS]
