from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "processes" / "freed_memory.py"


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="the C library is not glibc",
)
def test_pages_are_cleared_once_and_given_back():
    """In a process of its own, whose memory has no gaps yet that others left."""
    done = subprocess.run([sys.executable, SCRIPT], check=True, capture_output=True, text=True)
    without, within, kept, left, left_by_error, afterwards = json.loads(done.stdout)
    assert without > 7
    assert within < 2
    assert kept > 0.5
    assert max(left, left_by_error) < 0.5
    assert afterwards < 2
