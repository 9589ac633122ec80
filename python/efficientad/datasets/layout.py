"""What every layout of a data set comes down to: normal images to train on, labelled ones to test.

Normal images carry the label ``good``; every other label names a kind of defect.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Format: TypeAlias = Literal["mvtec_ad", "mvtec_loco", "visa", "folder"]
FORMATS: tuple[Format, ...] = get_args(Format)
GOOD = "good"


@dataclass(frozen=True)
class LabelledImage:
    """A test image: its file, its label, and the files of its masks, if there are any."""

    path: Path
    label: str
    masks: tuple[Path, ...] = ()

    @property
    def anomalous(self) -> bool:
        """Whether the image shows an anomaly."""
        return self.label != GOOD


@dataclass(frozen=True)
class Dataset:
    """The normal images of a data folder, sorted by path.

    ``validation`` is empty where the folder has no validation images of its own.
    """

    train: tuple[Path, ...]
    validation: tuple[Path, ...]


@dataclass(frozen=True)
class Saturation:
    """How much of a defect of MVTec LOCO has to be found for its overlap to be complete.

    Attributes:
        threshold: in pixels, or, if ``relative``, a share of the defect's pixels in (0, 1].
        relative: which of the two it is.
    """

    threshold: float
    relative: bool

    def area(self, defect_area: int) -> int:
        """The saturation area in pixels of a defect of that many pixels; at least 1."""
        area = self.threshold * defect_area if self.relative else self.threshold
        return max(1, min(int(area), defect_area))


@dataclass(frozen=True)
class LabelledSet:
    """The test images of one scenario.

    Attributes:
        category: the scenario's name, such as ``bottle``: that of its folder.
        format: the layout that it was found in.
        images: sorted by label and path.
        saturations: of MVTec LOCO, the saturation of a defect by the value of its mask's pixels;
            None where there are none.
    """

    category: str
    format: Format
    images: tuple[LabelledImage, ...]
    saturations: Mapping[int, Saturation] | None = None

    @property
    def has_masks(self) -> bool:
        """Whether any anomalous image has a mask."""
        return any(image.masks for image in self.images)


def require_folder(folder: Path) -> None:
    """Raises FileNotFoundError or ValueError if this is not an existing folder."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist; expected a folder of images")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder of images")


def category_name(root: Path) -> str:
    """The name of a scenario's folder, also where it was given as ``.``."""
    return root.resolve().name


def read_table(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file whose first line names its columns; values are stripped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text in UTF-8, a column is missing, or a row has too few values.
    """
    if not file.is_file():
        raise FileNotFoundError(f"the list {file} does not exist")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8 ({error}); save it as such") from None
    with io.StringIO(text, newline="") as stream:
        reader = csv.DictReader(stream)
        for column in columns:
            if column not in (reader.fieldnames or ()):
                raise ValueError(
                    f"{file} has no column {column!r}; expected {','.join(columns)} in its first "
                    "line"
                )
        rows = []
        for row in reader:
            if any(row[column] is None for column in columns):
                raise ValueError(f"{file}, line {reader.line_num}: there are too few values")
            rows.append({column: row[column].strip() for column in columns})
        return rows
