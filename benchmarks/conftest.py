"""Interleaved comparisons with what a user would pick instead, under pytest-benchmark."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from efficientad_ext import _C, build_config


def _sibling(name: str) -> Any:
    """A module of this folder, which is not a package and on no import path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


gate = _sibling("gate")
_sibling("plain_detector")

# A run that is too slow is repeated: on a shared machine a neighbour may be the reason.
ATTEMPTS = 3
SECONDS_PER_ATTEMPT = 1.5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-expected",
        action="store_true",
        help="write the measured ratios to benchmarks/expected.json instead of judging them",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        devices = ["cpu"]
        if _C.cuda is not None and torch.cuda.is_available():
            devices.append("cuda")
        metafunc.parametrize("device", devices, scope="session", indirect=True)


@pytest.fixture(scope="session", autouse=True)
def _settled_allocator() -> None:
    """Bring the C library's allocator into the state that it has in a long-running process.

    Freeing a large block once makes it keep the memory of later ones. Before that, each temporary
    of a few megabytes is mapped and unmapped anew, which doubles the time of some compositions, and
    whether a process gets there by itself is chance.
    """
    torch.empty(30 * 2**20, dtype=torch.uint8)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    torch.manual_seed(0)
    # Of float32, ours keeps all 24 bits; cuDNN is to do so, too.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(request.param)


@dataclass(frozen=True)
class Layer:
    """A layer of a PDN-S at 256x256 whose convolution has more than three input channels."""

    name: str
    channels: int
    outputs: int
    kernel: int
    side: int

    def operands(self, dtype: torch.dtype) -> list[torch.Tensor]:
        """Maps of that type, a weight and a bias in float32; channels-last, with gradients."""
        shape = (self.outputs, self.channels, self.kernel, self.kernel)
        x = torch.randn(1, self.channels, self.side, self.side).to(dtype)
        tensors = (x, torch.randn(shape))
        last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors]
        return [tensor.requires_grad_() for tensor in (*last, torch.randn(self.outputs))]


LAYERS = (
    Layer("stage 2", 128, 256, 4, 126),
    Layer("layer 3", 256, 256, 3, 61),
    Layer("last", 256, 384, 4, 59),
)


@pytest.fixture(params=LAYERS, ids=lambda layer: layer.name)
def layer(request: pytest.FixtureRequest) -> Layer:
    return request.param  # type: ignore[no-any-return]


def processor_of(device: torch.device) -> str:
    return f"cpu {gate.processor()}" if device.type == "cpu" else device.type


@dataclass
class Results:
    """The ratios of this session by processor and name, and what is to be said about them."""

    ratios: dict[tuple[str, str], float]
    floors: dict[tuple[str, str], float | None]
    remarks: list[str]


RESULTS = Results({}, {}, [])


def _median_of_other(
    benchmark: Any, ours: Callable[[], object], other: Callable[[], object]
) -> float:
    """Time both in turn: `other` before each round, `ours` as the benchmark; seconds of `other`."""
    ours()
    other()
    started = time.perf_counter()
    ours()
    other()
    rounds = int(SECONDS_PER_ATTEMPT / (time.perf_counter() - started))
    times: list[float] = []

    def time_other() -> None:
        start = time.perf_counter()
        other()
        times.append(time.perf_counter() - start)

    benchmark.pedantic(ours, setup=time_other, rounds=max(7, min(rounds, 500)))
    return statistics.median(times)


@pytest.fixture
def compare(
    benchmark: Any, request: pytest.FixtureRequest, device: torch.device
) -> Callable[..., None]:
    """compare(name, ours, other, floor=None): measure the ratio of medians and judge it.

    `other` is the fastest composition a user of torch would write; `floor` is a promised ratio.
    """

    def synchronised(function: Callable[[], object]) -> Callable[[], object]:
        if device.type != "cuda":
            return function

        def run() -> None:
            function()
            torch.cuda.synchronize()

        return run

    def run(
        name: str,
        ours: Callable[[], object],
        other: Callable[[], object],
        floor: float | None = None,
    ) -> None:
        processor = processor_of(device)
        known = gate.of_processor(gate.load(), processor).get(name)
        update = request.config.getoption("--update-expected")
        expected = known or gate.Expectation(ratio=0.0, floor=floor)
        for attempt in range(ATTEMPTS):
            if attempt > 0:
                # A benchmark fixture measures once; a repetition starts its statistics anew.
                benchmark._mode = None
                benchmark.stats = None
            other_median = _median_of_other(benchmark, synchronised(ours), synchronised(other))
            ratio = other_median / benchmark.stats.stats.median
            problem = gate.failure(name, ratio, expected)
            if problem is None or update:
                break
        benchmark.extra_info["ratio"] = round(ratio, 3)
        RESULTS.ratios[processor, name] = ratio
        RESULTS.floors[processor, name] = floor
        if update:
            return
        assert problem is None, problem
        remark = gate.remark(name, ratio, known)
        if remark is not None:
            RESULTS.remarks.append(f"{processor} {remark}")

    return run


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not RESULTS.ratios or not session.config.getoption("--update-expected"):
        return
    expectations = gate.load()
    for (processor, name), ratio in RESULTS.ratios.items():
        entries = expectations.setdefault(processor, {})
        known = gate.of_processor(expectations, processor).get(name)
        margin = known.margin if known else gate.DEFAULT_MARGIN
        floor = RESULTS.floors[processor, name]
        entries[name] = gate.Expectation(round(ratio, 2), margin, floor)
    gate.save(expectations)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not RESULTS.ratios:
        return
    terminalreporter.section("ratios: time of the comparison / ours, medians")
    config = build_config()
    terminalreporter.write_line(
        f"{gate.processor()}, {torch.get_num_threads()} threads, "
        f"{config['cpu_instruction_set']}, "
        f"torch {torch.__version__}"
    )
    for (processor, name), ratio in sorted(RESULTS.ratios.items()):
        terminalreporter.write_line(f"{processor.split()[0]:5} {name:60} {ratio:8.2f}")
    for remark in RESULTS.remarks:
        terminalreporter.write_line(remark)
