"""Finding a data set's images, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from efficientad.arguments import check_choice
from efficientad.datasets import folder, loco, mvtec, visa
from efficientad.datasets.layout import FORMATS, Dataset, Format, LabelledSet, require_folder

_DATASETS: dict[Format, Callable[[Path], Dataset]] = {
    "mvtec_ad": mvtec.find_dataset,
    "mvtec_loco": mvtec.find_dataset,
    "visa": visa.find_dataset,
    "folder": folder.find_dataset,
}
_TEST_SETS: dict[Format, Callable[[Path], LabelledSet]] = {
    "mvtec_ad": mvtec.find_test_set,
    "mvtec_loco": loco.find_test_set,
    "visa": visa.find_test_set,
    "folder": folder.find_test_set,
}


def detect_format(root: Path) -> Format:
    """The layout of a scenario's folder, told by what lies in it."""
    if (root / folder.LIST).is_file():
        return "folder"
    if (root / "Data" / "Images").is_dir():
        return "visa"
    if (root / "train").is_dir() or (root / "test").is_dir():
        kinds = (root / "test" / kind for kind in loco.KINDS)
        is_loco = (root / loco.DEFECTS).is_file() or any(kind.is_dir() for kind in kinds)
        return "mvtec_loco" if is_loco else "mvtec_ad"
    return "folder"


def find_dataset(root: Path | str, layout: Format | None = None) -> Dataset:
    """The normal images to train and to calibrate on; no test image is among them.

    Args:
        root: the folder of one scenario. MVTec AD and MVTec LOCO have ``train/good`` and,
            optionally, ``validation/good``. VisA has ``Data/Images``, and a list for all scenarios
            in ``../split_csv/1cls.csv``. Any other folder has a list of its own, ``images.csv``,
            with the columns image, split (train, validation, test), label (good or a kind of
            defect) and mask (none, or several separated by semicolons), or normal images only.
        layout: the layout; None to tell it by what lies in the folder.

    Raises:
        FileNotFoundError: if the folder or VisA's list does not exist.
        ValueError: if there is no such layout; if the folder is a file, holds no training image, or
            holds the folders of a test set without ``train/good``, so that anomalous images would
            be taken for normal ones; or if a list is not as described.
    """
    root = Path(root)
    require_folder(root)
    return _DATASETS[_layout_of(root, layout)](root)


def find_test_set(root: Path | str, layout: Format | None = None) -> LabelledSet:
    """The labelled test images, with their masks, sorted by label and path.

    Args:
        root: the folder of one scenario, as in `find_dataset`. Test images are in ``test/good`` and
            ``test/<kind of defect>``, in a plain folder in ``good`` and ``<kind of defect>``. The
            masks of ``<kind>/<name>.<suffix>`` are ``ground_truth/<kind>/<name>_mask.<any>``,
            ``ground_truth/<kind>/<name>.<any>``, or all images in ``ground_truth/<kind>/<name>/``.
            Masks that belong to no image are reported in the log.
        layout: the layout; None to tell it by what lies in the folder.

    Raises:
        FileNotFoundError: if the folder or VisA's list does not exist.
        ValueError: if there is no such layout, the folder is a file, holds no test image, or a list
            is not as described.
    """
    root = Path(root)
    require_folder(root)
    return _TEST_SETS[_layout_of(root, layout)](root)


def _layout_of(root: Path, layout: Format | None) -> Format:
    if layout is None:
        return detect_format(root)
    check_choice("layout", layout, FORMATS)
    return layout
