"""What this installation was built with."""

from __future__ import annotations

from typing import TypedDict

from efficientad_ext import _C, _instruction_set


class BuildConfig(TypedDict):
    """See :func:`build_config`."""

    host_compiler: str
    cuda: bool
    cuda_compiler: str | None
    cuda_architectures: list[str]
    cpu_instruction_sets: list[str]
    cpu_instruction_set: str


def build_config() -> BuildConfig:
    """What the compiled module contains, and what of it this processor runs.

    Returns:
        ``host_compiler``: name and version; ``cuda``: whether CUDA kernels were built;
        ``cuda_compiler``: nvcc's version or None; ``cuda_architectures``: in CMake's notation,
        where ``80-real`` is machine code and ``80-virtual`` is PTX; ``cpu_instruction_sets``: those
        built that this processor supports, slowest first; ``cpu_instruction_set``: the one in use,
        the last unless the environment variable ``EFFICIENTAD_INSTRUCTION_SET`` named another when
        the package was imported.
    """
    return {
        "host_compiler": _C.host_compiler,
        "cuda": _C.cuda is not None,
        "cuda_compiler": _C.cuda_compiler or None,
        "cuda_architectures": _C.cuda_architectures.split(),
        "cpu_instruction_sets": list(_C.cpu_instruction_sets),
        "cpu_instruction_set": _instruction_set.IN_USE,
    }
