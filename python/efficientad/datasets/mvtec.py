"""The layout of MVTec AD (Bergmann et al., IJCV 2021), and what other layouts share with it.

train/good/*, optionally validation/good/*, test/good/*, test/KIND/NAME.*, and masks in
ground_truth/KIND/NAME_mask.*.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

from efficientad.datasets.layout import (
    GOOD,
    Dataset,
    LabelledImage,
    LabelledSet,
    category_name,
)
from efficientad_ext.images import find_images

logger = logging.getLogger(__name__)

GROUND_TRUTH = "ground_truth"


def find_dataset(root: Path) -> Dataset:
    """The images in train/good and validation/good."""
    train = _images_in(root / "train" / GOOD)
    if not train:
        raise ValueError(f"{root / 'train' / GOOD} holds no image; put the normal images there")
    return Dataset(train, _images_in(root / "validation" / GOOD))


def find_test_set(root: Path) -> LabelledSet:
    """The images in test, with their masks."""
    images = labelled_images(root / "test", root / GROUND_TRUTH)
    if not images:
        raise ValueError(
            f"{root} has no test images; expected test/good and test/<kind of defect> in it"
        )
    return LabelledSet(category_name(root), "mvtec_ad", images)


def labelled_images(folder: Path, mask_folder: Path) -> tuple[LabelledImage, ...]:
    """The images in the subfolders of a folder, each named after its label, with their masks."""
    if not folder.is_dir():
        return ()
    images: list[LabelledImage] = []
    for kind in sorted(child for child in folder.iterdir() if child.is_dir()):
        if kind != mask_folder and not kind.name.startswith("."):
            images += _images_of_kind(kind, mask_folder / kind.name)
    return tuple(images)


def _images_of_kind(folder: Path, mask_folder: Path) -> list[LabelledImage]:
    if folder.name.casefold() == GOOD:
        return [LabelledImage(path, GOOD) for path in find_images(folder)]
    masks = _images_in(mask_folder)
    by_name: dict[Path, list[Path]] = defaultdict(list)
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for mask in masks:
        place = mask.relative_to(mask_folder)
        by_name[place.with_suffix("")].append(mask)
        by_folder[place.parent].append(mask)
    images = []
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix("")
        alternatives = (
            by_name.get(name.with_name(f"{name.name}_mask")),
            by_name.get(name),
            by_folder.get(name),
        )
        own = next((found for found in alternatives if found), [])
        images.append(LabelledImage(path, folder.name, tuple(own)))
    used = {mask for image in images for mask in image.masks}
    if stray := [mask for mask in masks if mask not in used]:
        logger.warning(
            "%d masks in %s belong to no image, such as %s", len(stray), mask_folder, stray[0]
        )
    return images


def _images_in(folder: Path) -> tuple[Path, ...]:
    return tuple(find_images(folder)) if folder.is_dir() else ()
