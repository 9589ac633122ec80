"""Folders for results, checked before anything is computed for them."""

from __future__ import annotations

import tempfile
from pathlib import Path


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
