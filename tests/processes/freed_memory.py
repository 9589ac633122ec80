"""What large blocks of memory cost that are written and freed one after the other.

Prints, as JSON, page faults without `freed_memory_is_kept` and within it, and the resident pages
that the block leaves behind; all in multiples of a block's pages.

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

BYTES = 2**26
PAGES = BYTES // resource.getpagesize()


def page_faults() -> float:
    """Of eight blocks."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        memory = library.malloc(BYTES)
        ctypes.memset(memory, 1, BYTES)
        library.free(memory)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / PAGES


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
print(json.dumps([without, within, kept, left, left_by_error]))
