"""Registration of the raw ops with torch's dispatcher.

A raw op is what ``torch.ops.efficientad_ext.NAME`` names: it checks nothing, and is called by the
public function of the same name in :mod:`efficientad_ext.ops`, which does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from efficientad_ext import _C, _instruction_set

library = torch.library.Library("efficientad_ext", "DEF")

_OLDEST_CAPABILITY = (8, 0)


class Backend:
    """The kernels of one kind of device.

    ``run("NAME", device, ...)`` calls kernel NAME with the number that tells the kernels how to run
    on the device (see ``context``) in front of the arguments.

    Attributes:
        kernels: a module of compiled kernels.
        context: given a device, the number of threads to use on it, or its current stream.
    """

    def __init__(self, kernels: Any, context: Callable[[torch.device], int]) -> None:
        self.kernels = kernels
        self.context = context

    def has(self, name: str) -> bool:
        """Whether this backend has a kernel of that name."""
        return hasattr(self.kernels, name)

    def run(self, name: str, device: torch.device, *arguments: Any) -> None:
        """Run a kernel on tensors of ``device``."""
        getattr(self.kernels, name)(self.context(device), *arguments)

    def workspace(self, name: str, device: torch.device, *arguments: Any) -> Tensor | None:
        """The memory that kernel ``name`` wants to work in, if any."""
        size = getattr(self.kernels, f"{name}_workspace")(*arguments)
        return torch.empty(size, dtype=torch.uint8, device=device) if size else None


CPU = Backend(
    _C.cpu_instruction_sets[_instruction_set.IN_USE], lambda _device: torch.get_num_threads()
)


def check_gpu(device: torch.device) -> None:
    """Raises RuntimeError if a CUDA device is too old for the kernels."""
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST_CAPABILITY:
        raise RuntimeError(
            f"{torch.cuda.get_device_name(device)} has compute capability "
            f"{'.'.join(map(str, capability))}; the kernels need at least "
            f"{'.'.join(map(str, _OLDEST_CAPABILITY))}: use the CPU"
        )


def _stream_on(device: torch.device) -> int:
    check_gpu(device)
    return torch.cuda.current_stream(device).cuda_stream


def cuda_backend() -> Backend:
    """The CUDA kernels.

    Raises:
        RuntimeError: if the package was built without them.
    """
    if _C.cuda is None:
        raise RuntimeError(
            "efficientad_ext was built without CUDA kernels; install a CUDA toolkit and reinstall "
            "the package from source, or move the tensors to the CPU"
        )
    return Backend(_C.cuda, _stream_on)


def backend_of(device: torch.device) -> Backend:
    """The backend that computes on a device.

    Raises:
        RuntimeError: for a CUDA device, if the package was built without CUDA kernels.
    """
    return cuda_backend() if device.type == "cuda" else CPU


def register(
    schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[..., Any]:
    """Register a raw op for CPU, CUDA and fake tensors, and return it.

    Args:
        schema: the op's name, arguments and results in torch's schema language.
        implementation: called with a :class:`Backend` and the op's arguments; allocates the
        results.
        fake: called with the op's arguments; returns results of the right shape without computing.
    """
    name = schema.split("(", 1)[0]
    library.define(schema)
    library.impl(name, lambda *arguments: implementation(CPU, *arguments), "CPU")
    library.impl(name, lambda *arguments: implementation(cuda_backend(), *arguments), "CUDA")
    torch.library.register_fake(f"efficientad_ext::{name}", fake, lib=library)
    return getattr(torch.ops.efficientad_ext, name).default
