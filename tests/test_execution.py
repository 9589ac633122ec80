"""The order in which phases run on CUDA streams, on streams that only keep account of it."""

from __future__ import annotations

import contextlib

import pytest
import torch

from efficientad_ext import _execution
from efficientad_ext._execution import CudaExecution

# What each phase reads was written by; see csrc/engine/steps.h.
NEEDS = {
    "networks": {"image"},
    "autoencoder": {"image"},
    "local_map": {"networks"},
    "global_map": {"networks", "autoencoder"},
    "features": {"networks"},
}


class Stream:
    """Knows what is certain to be over before its next kernel starts."""

    def __init__(self, *_, **__):
        self.over = set()

    def wait_stream(self, other):
        self.over |= other.over

    def wait_event(self, event):
        self.over |= event.over


class Event:
    def __init__(self):
        self.over = set()

    def record(self, stream):
        self.over = set(stream.over)


class Graph:
    def __init__(self, gpu):
        self.gpu, self.over, self.replays = gpu, set(), 0

    def capture_begin(self, capture_error_mode):
        assert capture_error_mode == "thread_local"
        assert _execution._capture.locked(), "another engine may capture at the same time"
        # A graph starts where it is replayed, behind the image.
        self.gpu.current.over = {"image"}

    def capture_end(self):
        assert _execution._capture.locked(), "another engine may capture at the same time"
        self.over = set(self.gpu.current.over)

    def replay(self):
        self.replays += 1
        assert "image" in self.gpu.current.over
        self.gpu.current.over |= self.over


class Gpu:
    """Stands in for torch.cuda."""

    def __init__(self):
        self.current, self.capturing, self.graphs = Stream(), False, []
        self.Stream, self.Event, self.CUDAGraph = Stream, Event, self.graph

    def graph(self):
        self.graphs.append(Graph(self))
        return self.graphs[-1]

    def current_stream(self, _device):
        return self.current

    def is_current_stream_capturing(self):
        return self.capturing

    def device(self, _device):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before


@pytest.fixture
def gpu(monkeypatch):
    gpu = Gpu()
    for name in (
        "Stream",
        "Event",
        "CUDAGraph",
        "current_stream",
        "is_current_stream_capturing",
        "device",
        "stream",
    ):
        monkeypatch.setattr(torch.cuda, name, getattr(gpu, name))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _tensor, _stream: None)
    return gpu


@pytest.fixture
def execution(gpu):
    execution = CudaExecution(torch.device("cpu"), 100, 1000)
    assert gpu.graphs == []
    return execution


def run(gpu, execution, plan):
    """One run as the engine does it; the phases that were launched, and its workspace."""
    launched = []

    def launch(phase):
        assert NEEDS[phase] <= gpu.current.over, f"{phase} may start too early"
        gpu.current.over.add(phase)
        launched.append(phase)

    gpu.current.over -= {"image", *NEEDS}
    with execution.workspace() as workspace:
        gpu.current.over.add("image")
        execution.run_networks(plan, launch)
        assert set(NEEDS) <= gpu.current.over, "the maps may be read too early"
        gpu.current.over.add(f"the run of {plan}")
    return launched, workspace


def test_first_run_is_launched_and_then_captured(gpu, execution):
    launched, _ = run(gpu, execution, "plan")
    assert sorted(launched) == sorted(2 * list(NEEDS))
    assert [graph.replays for graph in gpu.graphs] == [0]


def test_later_runs_replay(gpu, execution):
    run(gpu, execution, "plan")
    for replays in (1, 2):
        assert run(gpu, execution, "plan")[0] == []
        assert [graph.replays for graph in gpu.graphs] == [replays]
    run(gpu, execution, "another plan")
    assert [graph.replays for graph in gpu.graphs] == [2, 0]


def test_runs_on_different_streams_follow_each_other(gpu, execution):
    _, workspace = run(gpu, execution, "first")
    gpu.current = Stream()
    _, same = run(gpu, execution, "second")
    assert same.data_ptr() == workspace.data_ptr()
    assert "the run of first" in gpu.current.over


def test_somebody_elses_capture(gpu, execution):
    """Launched into it, beside nothing of ours and in memory of its own."""
    _, workspace = run(gpu, execution, "plan")
    gpu.current, gpu.capturing = Stream(), True
    for _ in range(2):
        launched, other = run(gpu, execution, "plan")
        assert sorted(launched) == sorted(NEEDS)
        assert len(gpu.graphs) == 1
        assert gpu.graphs[0].replays == 0
        assert other.data_ptr() != workspace.data_ptr()
    gpu.current, gpu.capturing = Stream(), False
    run(gpu, execution, "plan")
    assert gpu.graphs[0].replays == 1


def test_a_failed_run_leaves_the_workspace_usable(gpu, execution):
    with pytest.raises(RuntimeError, match="no"), execution.workspace():
        raise RuntimeError("no")
    run(gpu, execution, "plan")


def test_memory_is_aligned():
    arrays = _execution.aligned_bytes(torch.device("cpu"), 1, 1000, 4096, 7)
    assert [len(array) for array in arrays] == [1, 1000, 4096, 7]
    for number, array in enumerate(arrays):
        assert array.data_ptr() % 1024 == 0
        array.fill_(number)
    assert [int(array.float().mean()) for array in arrays] == [0, 1, 2, 3]
