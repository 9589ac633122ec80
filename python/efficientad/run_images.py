"""The images of one training run, checked, split, and put down for its record."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from efficientad.checkpoint import Settings
from efficientad.datasets import (
    find_dataset,
    find_photos,
    fingerprint,
    split_validation,
)
from efficientad.loader import (
    ImageStore,
    PenaltySource,
    ReplacingStore,
    drop_unreadable,
    load_penalty_pixels,
)
from efficientad.procedural import procedural_image
from efficientad.randomness import Purpose, generator, shuffled_index
from efficientad_ext._checks import check_type

PROCEDURAL = "procedural"
NO_PENALTY = "none"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunImages:
    """What a run works on.

    Attributes:
        train: the images to train on.
        validation: the files to calibrate with.
        penalty: generic images for the pretraining penalty, or None for a run without.
        record: counts and fingerprints of all three.
    """

    train: ImageStore
    validation: tuple[Path, ...]
    penalty: PenaltySource | None
    record: Settings


def find_run_images(
    data: Path, penalty_images: Path | str, input_size: tuple[int, int], seed: int
) -> RunImages:
    """Finds the images of a run, and reports and drops those that cannot be read.

    ``penalty_images`` is a folder of photos, or "procedural", or "none".

    Raises:
        TypeError: if ``penalty_images`` is neither text nor a path.
        FileNotFoundError: if a folder does not exist.
        ValueError: if there is nothing to train on or to calibrate with.
    """
    # First, since the other images are all read, which takes time.
    penalty, penalty_record = _penalty_source(penalty_images, input_size, seed)
    train, validation = find_normal_images(data, input_size, seed)
    record = {
        **record_of("training", train.paths, data),
        **record_of("validation", validation, data),
    }
    return RunImages(train, validation, penalty, {**record, **penalty_record})


def _penalty_source(
    chosen: Path | str, input_size: tuple[int, int], seed: int
) -> tuple[PenaltySource | None, Settings]:
    if chosen == NO_PENALTY:
        logger.warning(
            "training goes without the pretraining penalty, as in the paper's ablation; "
            "--penalty-images procedural needs no photos"
        )
        return None, {"penalty images": NO_PENALTY}
    if chosen == PROCEDURAL:

        def generate(step: int) -> Tensor:
            return procedural_image(input_size, generator(seed, Purpose.PROCEDURAL_IMAGE, step))

        return generate, {"penalty images": PROCEDURAL}
    words = f'a folder, "{PROCEDURAL}" or "{NO_PENALTY}"'
    check_type("penalty_images", chosen, str | os.PathLike, words)
    folder = Path(chosen)
    photos = find_photos(folder)
    store = ReplacingStore(ImageStore(photos, input_size, load_penalty_pixels), "penalty")

    def choose(step: int) -> Tensor:
        return store[shuffled_index(seed, Purpose.PENALTY_ORDER, len(store), step)]

    return choose, record_of("penalty", photos, folder)


def find_normal_images(
    data: Path, input_size: tuple[int, int], seed: int
) -> tuple[ImageStore, tuple[Path, ...]]:
    """The images to train on and the files to calibrate with; unreadable ones are reported.

    Without validation images of its own, a tenth of the data set's images is held out.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if there is nothing to train on or to calibrate with.
    """
    dataset = find_dataset(data)
    train = ImageStore(dataset.train, input_size)
    drop_unreadable(train)
    _require_images(train.paths, "training", data)
    if dataset.validation:
        return train, readable_images(dataset.validation, input_size, "validation", data)
    training, validation = split_validation(train.paths, seed)
    train.keep(training)
    return train, validation


def readable_images(
    paths: Sequence[Path], input_size: tuple[int, int], kind: str, data: Path
) -> tuple[Path, ...]:
    """Those of the files that can be read as images; the others are reported.

    Raises:
        ValueError: if there is none; ``kind`` and ``data`` say of what, and where.
    """
    checked = ImageStore(paths, input_size, budget=0)
    drop_unreadable(checked)
    _require_images(checked.paths, kind, data)
    return checked.paths


def record_of(kind: str, paths: Sequence[Path], root: Path) -> dict[str, str | int]:
    """Number and fingerprint of one kind of a run's images, for its record."""
    return {
        f"{kind} images": len(paths),
        f"{kind} images' fingerprint": fingerprint(paths, root),
    }


def _require_images(paths: Sequence[Path], kind: str, data: Path) -> None:
    if not paths:
        raise ValueError(f"none of the {kind} images in {data} can be read; see above for why")
