"""Which instruction set's kernels run: the best there is, or what the environment says."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from efficientad_ext import _C, _instruction_set, build_config
from efficientad_ext.engine import Engine
from efficientad_ext.model_file import save_model


def python(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process that runs the code."""
    inherited = {
        key: value for key, value in os.environ.items() if key != "EFFICIENTAD_INSTRUCTION_SET"
    }
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parent,  # where no folder shadows the installed package
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_best_or_a_lower_one():
    names = list(_C.cpu_instruction_sets)
    assert names[0] == "portable"
    assert _instruction_set.chosen(None) == _instruction_set.chosen("") == names[-1]
    assert [_instruction_set.chosen(name) for name in names] == names


def test_one_that_is_not_there():
    process = python("import efficientad_ext", EFFICIENTAD_INSTRUCTION_SET="avx9")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "ValueError: the environment variable EFFICIENTAD_INSTRUCTION_SET is 'avx9'; this "
        f"installation on this processor has {', '.join(_C.cpu_instruction_sets)}"
    )


PORTABLE = """
import sys, torch
from efficientad_ext import _C, _registry, build_config
from efficientad_ext.engine import Engine
from efficientad_ext.model_file import load_model
assert build_config()["cpu_instruction_set"] == "portable"
assert _registry.CPU.kernels is _C.cpu_instruction_sets["portable"]
engine = Engine(load_model(sys.argv[1]), precision="float32")
torch.save(engine(torch.load(sys.argv[2]))[:2], sys.argv[3])
"""


def test_a_processor_without_extensions(reference_networks, tmp_path):
    """A lower set is chosen by the environment, reported, and computes the same."""
    model = reference_networks("small", (128, 128)).model
    save_model(model, tmp_path / "model.safetensors")
    image = torch.randint(0, 256, (1, 128, 128, 3), dtype=torch.uint8)
    torch.save(image, tmp_path / "image.pt")
    files = [tmp_path / name for name in ("model.safetensors", "image.pt", "result.pt")]
    process = python(PORTABLE, *files, EFFICIENTAD_INSTRUCTION_SET="portable")
    assert process.returncode == 0, process.stderr
    expected = Engine(model, precision="float32")(image)
    for actual, wanted in zip(torch.load(files[-1]), expected[:2], strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


REFUSED = """
import ctypes, errno
library = ctypes.CDLL(None, use_errno=True)
assert library.syscall(158, 0x1023, 18) == -1 and ctypes.get_errno() == errno.EPERM
from efficientad_ext import build_config
print(*build_config()["cpu_instruction_sets"])
"""


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="AMX is x86-64's"
)
def test_amx_that_the_operating_system_refuses(preloaded):
    """On a processor that has it; on others nothing is asked for."""
    process = python(REFUSED, LD_PRELOAD=str(preloaded("refuse_amx.c")))
    assert process.returncode == 0, process.stderr
    without = [name for name in build_config()["cpu_instruction_sets"] if "amx" not in name]
    assert process.stdout.split() == without
