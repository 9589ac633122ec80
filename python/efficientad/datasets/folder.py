"""Plain folders: of normal images only, of labelled ones in subfolders, or with a list.

The list is the file images.csv with the columns image, split, label and mask; files are relative
to the folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from efficientad.datasets.layout import (
    GOOD,
    Dataset,
    LabelledImage,
    LabelledSet,
    category_name,
    read_table,
)
from efficientad.datasets.mvtec import GROUND_TRUTH, labelled_images
from efficientad_ext.images import find_images

logger = logging.getLogger(__name__)

LIST = "images.csv"
_COLUMNS = ("image", "split", "label", "mask")
_SPLITS = ("train", "validation", "test")


def find_dataset(root: Path) -> Dataset:
    """The images listed for training and validation, or all images of a folder without a list."""
    if (root / LIST).is_file():
        listed = _read_list(root)
        if not listed["train"]:
            raise ValueError(f"{root / LIST} lists no image for the split train")
        train, validation = (
            tuple(sorted(image.path for image in listed[split])) for split in _SPLITS[:2]
        )
        return Dataset(train, validation)
    images = tuple(find_images(root))
    if not images:
        raise ValueError(
            f"{root} holds no image; expected images, or the folders train/good and test/…"
        )
    folders = sorted({path.relative_to(root).parts[0] for path in images if path.parent != root})
    _refuse_test_images(root, images, folders)
    if len(folders) > 1:
        logger.warning(
            "all images in the %d folders in %s are taken for good ones: %s",
            len(folders),
            root,
            ", ".join(folders),
        )
    return Dataset(images, ())


def find_test_set(root: Path) -> LabelledSet:
    """The images listed for testing, or those in the subfolders good and KIND."""
    if (root / LIST).is_file():
        listed = _read_list(root)["test"]
        images = tuple(sorted(listed, key=lambda image: (image.label, image.path)))
        if not images:
            raise ValueError(f"{root / LIST} lists no image for the split test")
    else:
        images = labelled_images(root, root / GROUND_TRUTH)
        if not images:
            raise ValueError(
                f"{root} has no test images; expected test/good and test/<kind of defect> in it, "
                f"good and <kind of defect>, or a list {LIST}"
            )
    return LabelledSet(category_name(root), "folder", images)


def _read_list(root: Path) -> dict[str, list[LabelledImage]]:
    splits: dict[str, list[LabelledImage]] = {split: [] for split in _SPLITS}
    seen: set[Path] = set()
    for row in read_table(root / LIST, _COLUMNS):
        name, split, label = row["image"], row["split"], row["label"]
        label = GOOD if label.casefold() == GOOD else label
        if split not in _SPLITS:
            raise ValueError(
                f"{root / LIST} has the split {split!r} for {name}; expected train, validation or "
                "test"
            )
        if not label or (split != "test" and label != GOOD):
            expected = "good or a kind of defect" if split == "test" else "good"
            raise ValueError(
                f"{root / LIST} has the label {label!r} for {name} in the split {split}; expected "
                f"{expected}"
            )
        if label in (".", "..") or "/" in label or "\\" in label:
            raise ValueError(
                f"{root / LIST} has the label {label!r} for {name}; expected a name that a folder "
                "of maps can have"
            )
        path = root / name
        if path in seen:
            raise ValueError(
                f"{root / LIST} lists {name} more than once; expected every image in one split"
            )
        seen.add(path)
        masks = tuple(root / mask.strip() for mask in row["mask"].split(";") if mask.strip())
        splits[split].append(LabelledImage(path, label, masks if label != GOOD else ()))
    return splits


def _refuse_test_images(root: Path, images: Sequence[Path], folders: Sequence[str]) -> None:
    """Raises ValueError if images lie where those of a test set do; ``folders``: those in root."""
    for path in images:
        for folder in path.relative_to(root).parents:
            if folder.name.casefold() in ("test", GROUND_TRUTH):
                raise ValueError(
                    f"{root} has no folder train, but {root / folder} looks like a test set; give "
                    "the folder that holds train/good, or one of normal images only"
                )
    good = [folder for folder in folders if folder.casefold() == GOOD]
    others = [folder for folder in folders if folder.casefold() != GOOD]
    if good and others:
        raise ValueError(
            f"{root} has {others[0]} beside {good[0]}, which looks like a test set; to train on "
            f"the good images, give {root / good[0]}"
        )
