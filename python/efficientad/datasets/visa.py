"""The layout of VisA (Zou et al., SPot-the-Difference, ECCV 2022).

SCENARIO/Data/Images/{Normal,Anomaly}/* and SCENARIO/Data/Masks/Anomaly/*. Which images are for
training and which for testing is listed for all scenarios in split_csv/1cls.csv beside them.
"""

from __future__ import annotations

from pathlib import Path

from efficientad.datasets.layout import (
    GOOD,
    Dataset,
    LabelledImage,
    LabelledSet,
    category_name,
    read_table,
)

_COLUMNS = ("object", "split", "label", "image", "mask")
_NORMAL = "normal"


def find_dataset(root: Path) -> Dataset:
    """The images that the list has for training; VisA has no validation images."""
    rows = _rows(root, "train")
    if anomalous := [row["image"] for row in rows if row["label"] != _NORMAL]:
        raise ValueError(f"{_list(root)} has an anomalous image for training: {anomalous[0]}")
    return Dataset(tuple(sorted(_path(root, row["image"]) for row in rows)), ())


def find_test_set(root: Path) -> LabelledSet:
    """The images that the list has for testing, with their masks."""
    images = [
        LabelledImage(
            _path(root, row["image"]),
            GOOD if row["label"] == _NORMAL else row["label"],
            (_path(root, row["mask"]),) if row["mask"] else (),
        )
        for row in _rows(root, "test")
    ]
    images.sort(key=lambda image: (image.label, image.path))
    return LabelledSet(category_name(root), "visa", tuple(images))


def _rows(root: Path, split: str) -> list[dict[str, str]]:
    category = category_name(root)
    rows = [
        row
        for row in read_table(_list(root), _COLUMNS)
        if (row["object"], row["split"]) == (category, split)
    ]
    if not rows:
        raise ValueError(f"{_list(root)} lists no image of {category} for the split {split}")
    return rows


def _path(root: Path, name: str) -> Path:
    """A file that the list names, below the scenario's folder as it was given."""
    category = category_name(root)
    if not Path(name).is_relative_to(category):
        raise ValueError(
            f"{_list(root)} has {name!r} for {category}; expected a path that begins with "
            f"{category}/"
        )
    return root / Path(name).relative_to(category)


def _list(root: Path) -> Path:
    return root.resolve().parent / "split_csv" / "1cls.csv"
