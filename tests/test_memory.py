from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import pytest
from efficientad.memory import freed_memory_is_kept

C_LIBRARY = ctypes.CDLL(None)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(C_LIBRARY, "mallopt"),
    reason="the C library is not glibc",
)

C_LIBRARY.malloc.restype = ctypes.c_void_p
C_LIBRARY.malloc.argtypes = [ctypes.c_size_t]
C_LIBRARY.free.argtypes = [ctypes.c_void_p]

BYTES = 2**26
PAGES = BYTES // resource.getpagesize()
TIMES = 8


def page_faults() -> int:
    """Of a few large blocks that are written and freed one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        memory = C_LIBRARY.malloc(BYTES)
        ctypes.memset(memory, 1, BYTES)
        C_LIBRARY.free(memory)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_pages_are_cleared_once_and_given_back():
    assert page_faults() > 0.9 * TIMES * PAGES
    resident = resident_pages()
    with freed_memory_is_kept():
        assert page_faults() < 2 * PAGES
        assert resident_pages() > resident + PAGES / 2
    assert resident_pages() < resident + PAGES / 2


def test_it_ends_with_an_error():
    def fail():
        page_faults()
        raise KeyError

    resident = resident_pages()
    with pytest.raises(KeyError), freed_memory_is_kept():
        fail()
    assert resident_pages() < resident + PAGES / 2
