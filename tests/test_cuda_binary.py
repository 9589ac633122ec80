"""What the compiled file says of the CUDA kernels: resources, and the instructions they consist of.

The budgets of `cuda_budgets.json` are registers of a thread, by architecture and kernel, where a
kernel is named by a pattern for its mangled name. (Shared memory is what a launch asks for, so that
its budgets are held in test_segment_convolution.py.) A kernel that needs more would leave fewer
threads, or no room for another kernel beside it, on a multiprocessor.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from efficientad_ext import _C, build_config

BUDGETS: dict[str, dict[str, int]] = json.loads(
    Path(__file__).with_name("cuda_budgets.json").read_text()
)["registers"]


@dataclass(frozen=True)
class Kernel:
    architecture: str
    name: str
    registers: int
    stack: int


def tools() -> Path:
    """The folder of cuobjdump and nvdisasm, from their packages or the toolkit."""
    found = importlib.util.find_spec("nvidia")
    for root in list(found.submodule_search_locations or []) if found is not None else []:
        for folder in Path(root).glob("*/bin"):
            if (folder / "cuobjdump").is_file() and (folder / "nvdisasm").is_file():
                return folder
    path = shutil.which("cuobjdump")
    if path is None or shutil.which("nvdisasm") is None:
        pytest.skip("cuobjdump and nvdisasm are not here; install the test extra")
    return Path(path).parent


def cuobjdump(*arguments: str) -> Iterator[str]:
    """The lines that cuobjdump writes about the compiled module."""
    folder = tools()
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    with subprocess.Popen(
        [folder / "cuobjdump", *arguments, _C.__file__],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield from process.stdout
    assert process.returncode == 0


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    if not build_config()["cuda"]:
        pytest.skip("this build has no CUDA kernels")
    found: list[Kernel] = []
    architecture = name = ""
    for line in cuobjdump("--dump-resource-usage"):
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        elif match := re.match(r" *Function (\w+):", line):
            name = match[1]
        elif match := re.search(r"REG:(\d+) STACK:(\d+)", line):
            found.append(Kernel(architecture, name, int(match[1]), int(match[2])))
    assert found
    return found


def instructions(architecture: str, pattern: str) -> dict[str, set[str]]:
    """The instructions of each kernel whose name matches, with and without their modifiers."""
    if not build_config()["cuda"]:
        pytest.skip("this build has no CUDA kernels")
    found: dict[str, set[str]] = {}
    name = ""
    for line in cuobjdump("--dump-sass", "--gpu-architecture", architecture):
        if match := re.match(r"\s*Function : (\w+)", line):
            name = match[1] if re.search(pattern, match[1]) else ""
        elif name and (match := re.match(r"\s*/\*\w+\*/ +(?:@!?U?P\w+ +)?([A-Z0-9.]+)", line)):
            opcode = match[1]
            found.setdefault(name, set()).update((opcode, opcode.split(".")[0]))
    if not found:
        pytest.skip(f"this build has no machine code for {architecture}")
    return found


def test_no_kernel_spills(kernels):
    # Spilled registers, and arrays that are not in registers, live on the stack.
    assert [kernel for kernel in kernels if kernel.stack > 0] == []


def test_registers_stay_within_their_budgets(kernels):
    for architecture, budgets in BUDGETS.items():
        present = [kernel for kernel in kernels if kernel.architecture == architecture]
        for pattern, budget in budgets.items():
            matching = [kernel for kernel in present if re.search(pattern, kernel.name)]
            assert matching or not present, f"no kernel of {architecture} is named {pattern}"
            over = [kernel for kernel in matching if kernel.registers > budget]
            assert over == [], f"more than the {budget} registers of {pattern}"


def test_sm90_convolution_uses_warpgroups_and_the_copy_engine():
    for name, found in instructions("sm_90a", "sm90.*convolution_kernel").items():
        assert {"HGMMA", "UTMALDG"} <= found, name
        assert "HMMA" not in found, name


@pytest.mark.parametrize("pattern", ["sm80.*convolution_kernel", "image_kernel"])
def test_sm80_convolution_uses_tensor_cores(pattern):
    for name, found in instructions("sm_80", pattern).items():
        assert {"HMMA", "LDSM", "LDGSTS"} <= found, name


def test_vectors_are_stored_whole():
    """The compiler takes a vector apart where it may: four stores of 4 bytes instead of one."""
    for kernel in ("forward_kernel", "gradient_kernel"):
        found = instructions("sm_80", f"relu_pool.*{kernel}I(?!d)")  # double has two
        wide = [name for name, opcodes in found.items() if "LDG.E.128" in opcodes]
        assert wide
        for name in wide:
            assert "STG.E.128" in found[name], name
    for name, found_in in instructions("sm_80", "sm80.*convolution_kernel.*Lb1").items():
        assert "STS.128" in found_in, name
