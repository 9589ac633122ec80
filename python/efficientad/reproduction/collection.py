"""The categories of data set collections, and which collection each one belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientad.datasets import Format, detect_format
from efficientad.datasets.folder import LIST
from efficientad.datasets.layout import category_name, require_folder

OTHER = "other data"

_MEMBERS: dict[Format, tuple[str, frozenset[str]]] = {
    "mvtec_ad": (
        "MVTec AD",
        frozenset(
            ["bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut",
             "pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"]
        ),
    ),
    "mvtec_loco": (
        "MVTec LOCO",
        frozenset(
            ["breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"]
        ),
    ),
    "visa": (
        "VisA",
        frozenset(
            ["candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2",
             "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"]
        ),
    ),
}  # fmt: skip

COLLECTIONS = tuple(title for title, _ in _MEMBERS.values())
"""The collections that the papers evaluate."""

MEMBER_COUNTS = {title: len(names) for title, names in _MEMBERS.values()}


@dataclass(frozen=True)
class Category:
    """One scenario of a collection: its name, which is its folder's, its folder, and its layout."""

    name: str
    folder: Path
    format: Format

    @property
    def collection(self) -> str:
        """The published collection that has a category of this layout and name, or "other data"."""
        title, names = _MEMBERS.get(self.format, (OTHER, frozenset()))
        return title if self.name in names else OTHER


def find_categories(roots: Sequence[Path | str], names: Sequence[str] = ()) -> tuple[Category, ...]:
    """The categories in folders, sorted by name within each folder.

    Args:
        roots: folders whose subfolders are categories in the layout of MVTec AD, MVTec LOCO or
            VisA, or with a list ``images.csv``, or folders that are such a category themselves.
            Subfolders of another kind are passed over.
        names: of the categories that are wanted; none for all.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if a folder is a file or holds no category, a name is not found, or two
            categories have the same name.
    """
    found: dict[str, Category] = {}
    for root in map(Path, roots):
        require_folder(root)
        categories = _categories_in(root)
        if not categories:
            raise ValueError(
                f"{root} holds no category; expected folders in the layout of MVTec AD, MVTec "
                "LOCO or VisA, or with a list images.csv"
            )
        for category in categories:
            if category.name in found:
                raise ValueError(
                    f"{found[category.name].folder} and {category.folder} have the same name; "
                    "rename one of them, or leave it out"
                )
            found[category.name] = category
    if unknown := [name for name in names if name not in found]:
        raise ValueError(
            f"there is no category {unknown[0]!r}; there are {', '.join(sorted(found))}"
        )
    return tuple(category for category in found.values() if not names or category.name in names)


def _categories_in(root: Path) -> list[Category]:
    if category := _as_category(root):
        return [category]
    folders = sorted(child for child in root.iterdir() if child.is_dir())
    return [category for folder in folders if (category := _as_category(folder))]


def _as_category(folder: Path) -> Category | None:
    layout = detect_format(folder)
    if layout == "folder" and not (folder / LIST).is_file():
        return None
    return Category(category_name(folder), folder, layout)
