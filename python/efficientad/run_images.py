"""The images of one training run, checked, split, and put down for its record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientad.checkpoint import Settings
from efficientad.datasets import (
    find_dataset,
    find_penalty_images,
    fingerprint,
    split_validation,
)
from efficientad.loader import (
    ImageStore,
    ReplacingStore,
    drop_unreadable,
    load_penalty_pixels,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunImages:
    """What a run works on.

    Attributes:
        train: the images to train on.
        validation: the files to calibrate with.
        penalty: generic photos for the pretraining penalty, or None for a run without.
        record: counts and fingerprints of all three.
    """

    train: ImageStore
    validation: tuple[Path, ...]
    penalty: ReplacingStore | None
    record: Settings


def find_run_images(
    data: Path, penalty_folder: Path | str | None, input_size: tuple[int, int], seed: int
) -> RunImages:
    """Finds the images of a run, and reports and drops those that cannot be read.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if there is nothing to train on or to calibrate with.
    """
    dataset = find_dataset(data)
    train = ImageStore(dataset.train, input_size)
    drop_unreadable(train)
    _require_images(train.paths, "training", data)
    if dataset.validation:
        checked = ImageStore(dataset.validation, input_size, budget=0)
        drop_unreadable(checked)
        validation = checked.paths
        _require_images(validation, "validation", data)
    else:
        training, validation = split_validation(train.paths, seed)
        train.keep(training)
    record = {
        **_record("training", train.paths, data),
        **_record("validation", validation, data),
    }
    if penalty_folder is None:
        logger.warning(
            "there are no penalty images: training goes without the pretraining penalty (as in the "
            "paper's ablation); --penalty-images takes a folder of generic photos"
        )
        return RunImages(train, validation, None, {**record, "penalty images": 0})
    paths = find_penalty_images(penalty_folder)
    penalty = ReplacingStore(ImageStore(paths, input_size, load_penalty_pixels))
    record |= _record("penalty", paths, Path(penalty_folder))
    return RunImages(train, validation, penalty, record)


def _record(kind: str, paths: Sequence[Path], root: Path) -> dict[str, str | int]:
    return {
        f"{kind} images": len(paths),
        f"{kind} images' fingerprint": fingerprint(paths, root),
    }


def _require_images(paths: Sequence[Path], kind: str, data: Path) -> None:
    if not paths:
        raise ValueError(f"none of the {kind} images in {data} can be read; see above for why")
