"""In which memory, in which order and on which streams the phases of plans run.

The phases and what each one waits for are those of csrc/engine/steps.h. Both executions here run
all of them but the first, which reads the image; that one, and what reads the maps, is launched by
the engine within the same ``workspace()`` block.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from efficientad_ext import _C
from efficientad_ext._registry import check_gpu

Launch: TypeAlias = Callable[[str], None]
"""Launches the phase of that name on the current stream."""


class Execution(Protocol):
    """The memory of an engine, and the order of a plan's phases over it.

    Attributes:
        weights: the packed weights, uint8; for the engine to fill in.
    """

    weights: Tensor

    def workspace(self) -> contextlib.AbstractContextManager[Tensor]:
        """The workspace, nobody else's until the block ends."""

    def run_networks(self, plan: _C.Plan, launch: Launch) -> None:
        """All phases of `plan` behind the first; `launch` always does the same for one plan."""


def checked_device(device: str | torch.device) -> torch.device:
    """The device, a CUDA device with its index.

    Raises:
        ValueError: it is neither the CPU nor a CUDA device.
        RuntimeError: it is too old for the kernels.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ValueError(f"the engine has no kernels for {device}; expected the CPU or a CUDA GPU")
    if device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    check_gpu(device)
    return device


def execution_on(device: torch.device, weights_bytes: int, workspace_bytes: int) -> Execution:
    """How plans run on the device, with memory for the largest one."""
    execution = CudaExecution if device.type == "cuda" else HostExecution
    return execution(device, weights_bytes, workspace_bytes)


def aligned_bytes(device: torch.device, *counts: int) -> tuple[Tensor, ...]:
    """Arrays of uint8, uninitialised, that begin where a plan's memory must, in one allocation."""
    alignment: int = _C.plan_alignment
    room = [-(-count // alignment) * alignment for count in counts]
    memory = torch.empty(sum(room) + alignment, dtype=torch.uint8, device=device)
    start = -memory.data_ptr() % alignment
    arrays = memory[start : start + sum(room)].split(room)
    return tuple(array[:count] for array, count in zip(arrays, counts, strict=True))


class HostExecution:
    """One phase after the other, on the CPU and on the emulated GPU.

    Args:
        device: where the memory is.
        weights_bytes: how much of it the weights take.
        workspace_bytes: how much the largest plan works in.
    """

    def __init__(self, device: torch.device, weights_bytes: int, workspace_bytes: int) -> None:
        self.weights, self._workspace = aligned_bytes(device, weights_bytes, workspace_bytes)
        self._lock = threading.Lock()
        _on_host.add(self)

    def unlock_in_child(self) -> None:
        """In a forked process, which lacks the thread that may have been at work."""
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Tensor]:
        """See `Execution`."""
        with self._lock:
            yield self._workspace

    def run_networks(self, plan: _C.Plan, launch: Launch) -> None:  # noqa: ARG002
        """See `Execution`."""
        for phase in ("networks", "autoencoder", "local_map", "global_map", "features"):
            launch(phase)


_on_host: weakref.WeakSet[HostExecution] = weakref.WeakSet()


def _unlock_in_child() -> None:
    for execution in _on_host:
        execution.unlock_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


# torch counts captures, and the random generators that they hold, for the whole process.
_capture = threading.Lock()


class CudaExecution:
    """The autoencoder beside teacher and student on a stream of its own; CUDA graphs.

    A plan's first run is launched kernel by kernel, which also loads the kernels; then the same
    launches are captured, and all further runs replay that graph. Within somebody else's capture
    they become part of that graph, in memory of that graph.

    Args: those of `HostExecution`.
    """

    def __init__(self, device: torch.device, weights_bytes: int, workspace_bytes: int) -> None:
        self._device = device
        self.weights, self._workspace = aligned_bytes(device, weights_bytes, workspace_bytes)
        self._lock = threading.Lock()
        self._finished = torch.cuda.Event()
        with torch.cuda.device(device):
            self._capturing = torch.cuda.Stream(device)
            self._beside = _beside(device)
        self._graphs: dict[_C.Plan, torch.cuda.CUDAGraph] = {}

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Tensor]:
        """See `Execution`; on the device, runs follow each other whatever streams they are on."""
        if self._in_foreign_capture():
            (own,) = aligned_bytes(self._device, len(self._workspace))
            yield own
            return
        with self._lock:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._finished)
            # Whoever gets this memory after us waits for this stream, too.
            self._workspace.record_stream(stream)
            try:
                yield self._workspace
            finally:
                self._finished.record(stream)

    def run_networks(self, plan: _C.Plan, launch: Launch) -> None:
        """See `Execution`."""
        with torch.cuda.device(self._device):
            if self._in_foreign_capture():
                self._launch(launch, _beside(self._device))
            elif plan in self._graphs:
                self._graphs[plan].replay()
            else:
                self._launch(launch, self._beside)
                self._graphs[plan] = self._captured(launch)

    def _captured(self, launch: Launch) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with _capture, torch.cuda.stream(self._capturing):
            # Other threads may go on allocating and synchronising.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                self._launch(launch, self._beside)
            except BaseException:
                # That error says why, not the one of the capture that it leaves broken.
                with contextlib.suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph

    def _launch(self, launch: Launch, beside: torch.cuda.Stream) -> None:
        stream = torch.cuda.current_stream(self._device)
        beside.wait_stream(stream)
        try:
            with torch.cuda.stream(beside):
                launch("autoencoder")
            launch("networks")
            beside.wait_stream(stream)
            with torch.cuda.stream(beside):
                launch("global_map")
                launch("features")
            launch("local_map")
        finally:
            stream.wait_stream(beside)

    def _in_foreign_capture(self) -> bool:
        with torch.cuda.device(self._device):
            return torch.cuda.is_current_stream_capturing()


def _beside(device: torch.device) -> torch.cuda.Stream:
    # Of high priority: the autoencoder's many small kernels are to start as soon as they can.
    return torch.cuda.Stream(device, priority=-1)
