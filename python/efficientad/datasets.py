"""Which images a run works on: folders, splits, and what to do about unreadable files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientad.randomness import Purpose, generator
from efficientad_ext.images import find_images

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class LabelledImage:
    """A test image: its file, and the folder it lies in, which is ``good`` for a normal image."""

    path: Path
    label: str

    @property
    def anomalous(self) -> bool:
        """Whether the image shows an anomaly."""
        return self.label != "good"


@dataclass(frozen=True)
class Dataset:
    """The normal images of a data folder, sorted by path.

    ``validation`` is empty where the folder has no validation images of its own.
    """

    train: tuple[Path, ...]
    validation: tuple[Path, ...]


def find_dataset(root: Path | str) -> Dataset:
    """Looks through a folder of normal images, or through one in the layout of MVTec AD.

    The layout of MVTec AD has its normal images in ``train/good`` and, optionally,
    ``validation/good``. In any other folder every image is a normal one.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if it is a file, holds no training image, or holds the folders of a test set
            without ``train/good``, so that anomalous images would be taken for normal ones.
    """
    root = Path(root)
    _require_folder(root)
    if not (root / "train").is_dir():
        _refuse_folder_of_tests(root)
        images = tuple(find_images(root))
        if not images:
            raise ValueError(
                f"{root} holds no image; expected images, or the folders train/good and test/…"
            )
        return Dataset(images, ())
    train = tuple(find_images(root / "train" / "good")) if (root / "train/good").is_dir() else ()
    if not train:
        raise ValueError(f"{root / 'train' / 'good'} holds no image; put the normal images there")
    validation_folder = root / "validation" / "good"
    validation = tuple(find_images(validation_folder)) if validation_folder.is_dir() else ()
    return Dataset(train, validation)


def find_test_images(root: Path | str) -> tuple[LabelledImage, ...]:
    """The test images of a folder in the layout of MVTec AD, sorted by label and path.

    These are ``test/good`` and ``test/<kind of defect>``.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if it is a file, or holds no test image.
    """
    root = Path(root)
    _require_folder(root)
    folder = root / "test"
    kinds = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else ()
    images = tuple(LabelledImage(path, kind.name) for kind in kinds for path in find_images(kind))
    if not images:
        raise ValueError(
            f"{root} has no test images; expected test/good and test/<kind of defect> in it"
        )
    return images


def find_penalty_images(folder: Path | str) -> tuple[Path, ...]:
    """The images of a folder of generic photos, for the pretraining penalty.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if it is a file, or holds no image.
    """
    folder = Path(folder)
    _require_folder(folder)
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
    count = max(1, round(VALIDATION_SHARE * len(images)))
    held_out = set(
        generator(seed, Purpose.VALIDATION_SPLIT).permutation(len(images))[:count].tolist()
    )
    training = tuple(path for i, path in enumerate(images) if i not in held_out)
    validation = tuple(path for i, path in enumerate(images) if i in held_out)
    return training, validation


def report_skipped(path: Path, reason: Exception) -> None:
    """Tells the user that an unreadable image is left out, and why."""
    logger.warning("skipped an image: %s", _with_path(path, reason))


def fingerprint(images: Sequence[Path], root: Path) -> str:
    """A short digest of which images these are: their paths below ``root``, and their sizes."""
    digest = hashlib.sha256()
    for path in images:
        name = path.relative_to(root).as_posix()
        digest.update(f"{name}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def _with_path(path: Path, reason: Exception) -> str:
    return str(reason) if str(path) in str(reason) else f"{path}: {reason}"


def _require_folder(folder: Path) -> None:
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist; expected a folder of images")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder of images")


def _refuse_folder_of_tests(root: Path) -> None:
    for folder in root.rglob("*"):
        if folder.name in ("test", "ground_truth") and folder.is_dir():
            raise ValueError(
                f"{root} has no folder train, but {folder} looks like a test set; give the folder "
                "that holds train/good, or one of normal images only"
            )
