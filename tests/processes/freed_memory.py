"""What large blocks of memory cost that are written and freed one after the other.

Prints, as JSON, page faults without `freed_memory_is_kept` and within it, the resident pages
that it leaves behind, and the page faults of smaller blocks afterwards; all in multiples of a
block's pages.

Usage: freed_memory.py
"""

from __future__ import annotations

import ctypes
import json
import resource
from pathlib import Path

from efficientad.memory import freed_memory_is_kept

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]

BYTES, SMALLER_BYTES = 2**26, 2**23
PAGES = BYTES // resource.getpagesize()


def page_faults(size: int = BYTES) -> float:
    """Of eight blocks."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        memory = library.malloc(size)
        ctypes.memset(memory, 1, size)
        library.free(memory)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return faults * resource.getpagesize() / size


def resident() -> float:
    """Pages of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) / PAGES


def fail() -> None:
    """Raises KeyError within the block."""
    with freed_memory_is_kept():
        page_faults()
        raise KeyError


without, before = page_faults(), resident()
with freed_memory_is_kept():
    within, kept = page_faults(), resident() - before
left = resident() - before
try:
    fail()
except KeyError:
    left_by_error = resident() - before
afterwards = page_faults(SMALLER_BYTES)
print(json.dumps([without, within, kept, left, left_by_error, afterwards]))
