"""Which instruction set's CPU kernels run: the best, unless the environment names another."""

from __future__ import annotations

import os

from efficientad_ext import _C

_VARIABLE = "EFFICIENTAD_INSTRUCTION_SET"


def chosen(wanted: str | None) -> str:
    """The name of an instruction set that was built and that this processor runs.

    Args:
        wanted: such a name; None or nothing for the best one.

    Raises:
        ValueError: there is none of that name.
    """
    names = list(_C.cpu_instruction_sets)
    if not wanted:
        return names[-1]
    if wanted not in names:
        raise ValueError(
            f"the environment variable {_VARIABLE} is {wanted!r}; this installation on this "
            f"processor has {', '.join(names)}"
        )
    return wanted


IN_USE = chosen(os.environ.get(_VARIABLE))
