"""Memory that the C library keeps for what is allocated next."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

# mallopt's names for them. glibc raises both thresholds by itself, up to these, as large blocks are
# freed; once mallopt has set anything it does no more, and its first values (128 KB) would have it
# give back what any operation on a feature map frees.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_AFTERWARDS = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25, _MMAP_MAX: 65536}
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}


@contextlib.contextmanager
def freed_memory_is_kept() -> Iterator[None]:
    """Within the block, freed memory stays with the process, up to 2 GB of it.

    Every step of a training allocates and frees the same large feature maps. glibc gives such
    memory back to the system, which then has to clear each of its pages anew. It is told not to.
    Afterwards it gives back blocks of more than 32 MB, as it does by itself in a process that has
    run for long. Elsewhere nothing happens.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    assert library is not None
    for name, value in _KEPT.items():
        library.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _AFTERWARDS.items():
            library.mallopt(name, value)
        library.malloc_trim(0)
