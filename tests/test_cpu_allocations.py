"""What the CPU's kernels allocate: nothing, once they were called."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from efficientad_ext.model_file import save_model

PROCESSES = Path(__file__).parent / "processes"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts glibc's allocations")
def test_calls_behind_the_first_allocate_nothing(preloaded, reference_networks, tmp_path):
    counter = preloaded("count_allocations.c")
    # Of a size that is not the autoencoder's, so that images are resized as well.
    save_model(reference_networks("small", (128, 140)).model, tmp_path / "model.safetensors")
    process = subprocess.run(
        [
            sys.executable,
            PROCESSES / "count_allocations.py",
            counter,
            tmp_path / "model.safetensors",
        ],
        env={**os.environ, "LD_PRELOAD": str(counter), "OMP_WAIT_POLICY": "passive"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=240,
    )
    counts = [list(map(int, line.split())) for line in process.stdout.splitlines()]
    assert len(counts) == 2
    for calls in counts:
        assert calls[1:3] == calls[4:6] == [0, 0], counts
    # Counting works: the first calls with a number of threads take what the others need.
    assert counts[0][0] > 0
    assert counts[0][3] > 0
