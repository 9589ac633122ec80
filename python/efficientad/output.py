"""Places for results, checked before anything is computed for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from efficientad_ext.images import IMAGE_SUFFIXES


def require_file_place(file: Path) -> None:
    """Tries whether a file can be written there, in a folder that exists.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if there is a folder of that name, or an image.
        OSError: if files cannot be written to the folder.
    """
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"the folder {file.parent} for the output file does not exist; create it first"
        )
    if file.is_dir():
        raise ValueError(f"{file} is a folder; expected the name of the file to write")
    if file.suffix.lower() in IMAGE_SUFFIXES and file.exists():
        raise ValueError(f"{file} is an image, which would be lost; choose another name")
    require_writable(file.parent)


def resolved(inputs: Iterable[Path]) -> frozenset[Path]:
    """Files that are read, for ``require_no_input``."""
    return frozenset(path.resolve() for path in inputs)


def require_no_input(output: Path, inputs: frozenset[Path]) -> None:
    """Raises ValueError if writing this file would overwrite one of those."""
    if output.resolve() in inputs:
        raise ValueError(
            f"{output} is read by this very command, which would overwrite it; choose another "
            "place for the output"
        )


def require_writable(folder: Path) -> None:
    """Makes the folder, with its parents, and tries whether files can be written to it.

    Raises:
        OSError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"files cannot be written to the folder {folder}: {reason}"
        ) from error
