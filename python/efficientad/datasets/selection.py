"""Which of the images a run works on: photos, splits, and what to do about unreadable files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from efficientad.datasets.layout import require_folder
from efficientad.randomness import Purpose, generator
from efficientad_ext.images import find_images

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.1


def find_photos(folder: Path | str) -> tuple[Path, ...]:
    """The images of a folder of generic photos, for the pretraining penalty or a distillation.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if it is a file, or holds no image.
    """
    folder = Path(folder)
    require_folder(folder)
    images = tuple(find_images(folder))
    if not images:
        raise ValueError(f"{folder} holds no image; expected a folder of generic photos")
    return images


def split_validation(
    images: Sequence[Path], seed: int
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Holds out 10 % of the images, at least one, for calibration: (training, validation).

    Raises:
        ValueError: if there are fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(
            f"training needs at least two readable images, one of them held out for calibration, "
            f"but there is {len(images)}; add normal images"
        )
    return hold_out(images, validation_count(len(images)), seed, Purpose.VALIDATION_SPLIT)


def validation_count(images: int) -> int:
    """How many of so many images are held out for calibration."""
    return max(1, round(VALIDATION_SHARE * images))


def hold_out(
    images: Sequence[Path], count: int, seed: int, purpose: Purpose
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Takes ``count`` images out, at random: (the others, those taken out), in their order."""
    held_out = set(generator(seed, purpose).permutation(len(images))[:count].tolist())
    others = tuple(path for i, path in enumerate(images) if i not in held_out)
    return others, tuple(path for i, path in enumerate(images) if i in held_out)


def report_skipped(path: Path, reason: Exception) -> None:
    """Tells the user that an unreadable image is left out, and why."""
    logger.warning("skipped an image: %s", _with_path(path, reason))


def fingerprint(images: Sequence[Path], root: Path) -> str:
    """A short digest of which images these are: their paths below ``root``, and their sizes."""
    digest = hashlib.sha256()
    for path in images:
        name = path.relative_to(root) if path.is_relative_to(root) else path
        line = f"{name.as_posix()}\0{path.stat().st_size}\n"
        digest.update(line.encode(errors="surrogateescape"))  # file names may be any bytes
    return digest.hexdigest()[:16]


def content_digest(path: Path) -> bytes:
    """SHA-256 of a file's content, the same wherever it lies and whatever it is called."""
    return hashlib.sha256(path.read_bytes()).digest()


def _with_path(path: Path, reason: Exception) -> str:
    return str(reason) if str(path) in str(reason) else f"{path}: {reason}"
