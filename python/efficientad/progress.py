"""Progress bars that suit a terminal as well as a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

_SECONDS_BETWEEN_UPDATES = 0.5
_SECONDS_BETWEEN_UPDATES_IN_A_LOG = 30.0


def progress_bar(
    description: str, unit: str, total: int, initial: int = 0, shown: bool = True
) -> tqdm[None]:
    """A bar on stderr; where that is not a terminal, a line now and then instead.

    Nothing at all where it is not ``shown``, or where the environment says so: ``TQDM_DISABLE=1``.
    """
    terminal = sys.stderr.isatty()
    # tqdm looks into the environment for what it is not told.
    hidden = {} if shown else {"disable": True}
    return tqdm(
        desc=description,
        unit=unit,
        total=total,
        initial=initial,
        mininterval=_SECONDS_BETWEEN_UPDATES if terminal else _SECONDS_BETWEEN_UPDATES_IN_A_LOG,
        dynamic_ncols=True,
        leave=terminal,
        **hidden,
    )


def with_progress(description: str, unit: str, items: Sequence[Item]) -> Iterator[Item]:
    """Yields the items, with a progress bar."""
    with progress_bar(description, unit, len(items)) as bar:
        for item in items:
            yield item
            bar.update()
