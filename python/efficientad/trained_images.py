"""Which images a model was trained on, told by their contents, wherever they lie by now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from efficientad.datasets import content_digest
from efficientad_ext.model_file import Model

CONTENTS = "training images' contents"

# Of a digest, in hexadecimal digits: among a million images none is mistaken for another.
_DIGITS = 12


def contents_of(images: Iterable[Path]) -> list[str]:
    """Short digests of the images' files, sorted, for ``Model.training``."""
    return sorted(_short_digest(path) for path in images)


def knows_its_images(model: Model) -> bool:
    """Whether it was put down what the model was trained on, which older versions did not do."""
    return CONTENTS in model.training


def split_trained_on(
    model: Model, images: Sequence[Path]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The images that the model was trained on, and the others, in their order."""
    known = set(model.training.get(CONTENTS, ()))
    trained_on = {path for path in images if _short_digest(path) in known}
    return (
        tuple(path for path in images if path in trained_on),
        tuple(path for path in images if path not in trained_on),
    )


def _short_digest(path: Path) -> str:
    return content_digest(path).hex()[:_DIGITS]
