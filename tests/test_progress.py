from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BARS = """
from efficientad.progress import progress_bar, with_progress
assert list(with_progress("looking", "image", range(3))) == [0, 1, 2]
with progress_bar("hidden", "image", 3, shown=False) as bar:
    bar.update()
"""


@pytest.mark.parametrize("disabled", [False, True])
def test_the_environment_can_switch_progress_off(tmp_path: Path, disabled: bool):
    """tqdm reads it when it is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    if disabled:
        environment["TQDM_DISABLE"] = "1"
    result = subprocess.run(
        [sys.executable, "-c", BARS],
        cwd=tmp_path,  # not the source tree, which has no compiled module
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ("looking" in result.stderr) == (not disabled)
    assert "hidden" not in result.stderr
    assert result.stdout == ""
