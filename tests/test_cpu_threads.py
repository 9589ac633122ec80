"""Detectors on the CPU where threads and processes are many, few, or forked: the same results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from efficientad_ext import Detector, _registry
from efficientad_ext.engine import Engine
from efficientad_ext.model_file import Model, save_model

SIZE = (128, 140)
PROCESSES = Path(__file__).parent / "processes"
LIMIT = 240  # seconds: what waits longer waits forever

Detect = Callable[[Tensor], tuple[Tensor, ...]]


@pytest.fixture(scope="module")
def model(reference_networks) -> Model:
    return reference_networks("small", SIZE).model


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("threads") / "model.safetensors"
    save_model(model, path)
    return path


def engine(precision: str) -> Callable[[Model], Detect]:
    return lambda model: Engine(model, precision=precision, features=True)


def detector(model: Model) -> Detect:
    detector = Detector(model)

    def detect(image: Tensor) -> tuple[Tensor, ...]:
        detection = detector(list(image))
        return detection.map, detection.picturable_score

    return detect


# An engine in both of its ways to multiply, and the default, which is a detector on the first.
@pytest.fixture(
    scope="module",
    params=[engine("float32"), engine("bfloat16"), detector],
    ids=["float32", "bfloat16", "detector"],
)
def made(request) -> Callable[[Model], Detect]:
    return request.param


@pytest.fixture(scope="module")
def detect(made, model) -> Detect:
    return made(model)


@pytest.fixture
def set_threads():
    count = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(count)


def random_images(count: int) -> list[Tensor]:
    return [torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8) for _ in range(count)]


def assert_same(one, other) -> None:
    assert all(map(torch.equal, one, other))


def at_once(tasks: list[Callable[[], tuple[Tensor, ...]]]) -> list[tuple[Tensor, ...]]:
    """The tasks' results, each in a thread of its own."""
    results: list[tuple[Tensor, ...]] = [()] * len(tasks)
    start = threading.Barrier(len(tasks))

    def run(index: int) -> None:
        start.wait()
        results[index] = tasks[index]()

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a thread waits for another one"
    return results


def test_one_detector_in_ten_threads(detect):
    images = random_images(10)
    expected = [detect(image) for image in images]
    actual = at_once([lambda image=image: detect(image) for image in images])
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other)


def test_several_detectors_in_several_threads(made, model, detect):
    image = random_images(1)[0]
    expected = detect(image)
    detectors = [made(model) for _ in range(3)]
    tasks = [lambda own=own: own(image) for own in 2 * detectors]
    for actual in at_once(tasks):
        assert_same(actual, expected)


def test_changing_thread_counts(detect, set_threads):
    image = random_images(1)[0]
    expected = detect(image)
    for count in (1, 64, 3, 2, 64):
        set_threads(count)
        assert_same(detect(image), expected)


def test_threads_give_their_memory_back():
    """Each one works in 13 MB of its own."""
    kernel = _registry.CPU.kernels.segment_convolution
    width = 2**13
    images = torch.zeros(1, 4, width, 64)
    output = torch.empty(1, 4, width, 64)
    weight, bias = torch.zeros(64, 9 * 64), torch.zeros(64)
    segment = (images, 0, 64, 3, 1, 1, None)

    def convolve():
        kernel(1, [segment], weight, bias, (4, width), 64, "store", output)
        return ()

    at_once([convolve])
    before = resident_bytes()
    for _ in range(20):
        at_once([convolve])
    assert resident_bytes() - before < 100 * 2**20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def process(name: str, *arguments: Path, **variables: str) -> subprocess.Popen[str]:
    """A process with the default way of waiting, whatever this one has."""
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    command = [sys.executable, str(PROCESSES / name), *map(str, arguments)]
    return subprocess.Popen(
        command,
        env={**inherited, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(child: subprocess.Popen[str]) -> str:
    """What it printed; ends it and its children after the limit."""
    try:
        printed, _ = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        pytest.fail("a process waits for another one or for its own threads")
    assert child.returncode == 0, printed
    return printed


def test_several_processes_with_few_and_many_threads(model, model_file, tmp_path):
    image = random_images(1)[0]
    torch.save(image, tmp_path / "images.pt")
    children = [
        process(
            "detect.py",
            model_file,
            tmp_path / "images.pt",
            tmp_path / f"{threads}.pt",
            OMP_NUM_THREADS=str(threads),
        )
        for threads in (1, 2, 64)
    ]
    idle = [float(finished(child)) for child in children]
    # Threads without work sleep, or the processor time of a second would be one or more.
    assert max(idle) < 0.2
    ways = (engine("float32"), engine("bfloat16"), detector)
    expected = [way(model)(image)[:2] for way in ways]
    for threads in (1, 2, 64):
        results = torch.load(tmp_path / f"{threads}.pt")
        for one, other in zip(results, expected, strict=True):
            assert_same(one, other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork(model_file):
    finished(process("fork.py", model_file, OMP_NUM_THREADS="2"))
