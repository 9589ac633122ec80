"""The photos of one distillation, split, and put down for its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientad.checkpoint import Settings
from efficientad.crops import SMALLEST_PHOTO, load_photo
from efficientad.datasets import find_photos, fingerprint, hold_out
from efficientad.loader import ImageStore, ReplacingStore
from efficientad.randomness import Purpose

LARGEST_HELD_OUT = 200
_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class DistillationImages:
    """What a distillation works on.

    Photos that cannot be read or are smaller than a crop are reported when they are first met, and
    replaced by another.

    Attributes:
        train: the photos to learn from.
        held_out: the photos to measure the loss on.
        record: counts, and a fingerprint of both together.
    """

    train: ReplacingStore
    held_out: ReplacingStore
    record: Settings

    @property
    def skipped(self) -> int:
        """How many photos have turned out to be unusable so far."""
        return self.train.skipped + self.held_out.skipped


def find_distillation_images(folders: Sequence[Path], seed: int) -> DistillationImages:
    """Finds the photos in the folders and holds out a tenth of them, 200 at most.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if a folder holds no image, or there is but one image in all of them.
    """
    by_folder = {folder: find_photos(folder) for folder in folders}
    paths = [path for photos in by_folder.values() for path in photos]
    if len(paths) < 2:
        raise ValueError(
            "a distillation needs at least two photos, one of them held out, but there is "
            f"{len(paths)}; give a folder of thousands"
        )
    count = min(LARGEST_HELD_OUT, max(1, round(_HELD_OUT_SHARE * len(paths))))
    train, held_out = hold_out(paths, count, seed, Purpose.HELD_OUT_SPLIT)
    digests = (fingerprint(photos, folder) for folder, photos in by_folder.items())
    record: dict[str, str | int] = {
        "images": len(train),
        "held-out images": len(held_out),
        "images' fingerprint": " ".join(digests),
    }
    return DistillationImages(_store(train, "training"), _store(held_out, "held-out"), record)


def _store(paths: Sequence[Path], kind: str) -> ReplacingStore:
    return ReplacingStore(ImageStore(paths, (SMALLEST_PHOTO, SMALLEST_PHOTO), load_photo), kind)
