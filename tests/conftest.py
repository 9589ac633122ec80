"""What tests share: the ops' backends and comparisons, and a tiny trained model."""

from __future__ import annotations

import os

# Before torch starts its threads: idle ones that spin slow everything down where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# What cuBLAS needs to compute references repeatably on a GPU; see poisoned_memory.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import copy
import logging
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from efficientad.cli import main
from efficientad.teacher import Teacher, random_teacher
from efficientad.textures import make_dataset
from efficientad.training import TrainingConfig, train
from tiny_distillation import write_photos
from torch import Tensor, nn
from torch.nn import functional

from efficientad_ext import _C, _emulation, _registry
from efficientad_ext.architecture import (
    MINIMUM_INPUT_SIZE,
    AveragePool,
    Convolution,
    Dropout,
    Layer,
    ReLU,
    Size,
)
from efficientad_ext.inference import exact_float32
from efficientad_ext.model_file import Model, model_layers
from efficientad_ext.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN
from efficientad_ext.reference.segment_convolution import in_panels

FLOATING_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

# Relative to the largest expected value: a few roundings of the result in the type, and for float32
# of the sums behind it.
TOLERANCES = {
    torch.float64: 1e-13,
    torch.float32: 2e-6,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        names = [*_C.cpu_instruction_sets, "emulation"]
        if _C.cuda is not None and torch.cuda.is_available():
            names.append("cuda")
        if "engine_type" in metafunc.fixturenames:
            types = [
                pytest.param(name, dtype, id=f"{name}-{dtype}")
                for name in (*names, "emulation_86", "emulated_amx")
                for dtype in _engine_types(name)
            ]
            metafunc.parametrize(("backend", "engine_type"), types, indirect=["backend"])
        elif "winograd_type" in metafunc.fixturenames:
            types = [
                pytest.param(name, dtype, id=f"{name}-{dtype}")
                for name in _C.cpu_instruction_sets
                for dtype in (torch.float64, torch.float32)
            ]
            metafunc.parametrize(("backend", "winograd_type"), types, indirect=["backend"])
        elif "training_backend" in metafunc.fixturenames:
            on_a_cpu = [*_C.cpu_instruction_sets, "emulated_amx"]
            metafunc.parametrize("backend", on_a_cpu, indirect=True)
        else:
            metafunc.parametrize("backend", names, indirect=True)


def _engine_types(backend: str) -> tuple[torch.dtype, ...]:
    if backend == "emulated_amx":
        return torch.float16, torch.bfloat16
    if backend in _C.cpu_instruction_sets:
        return FLOATING_TYPES
    # Tensor cores do not multiply float64. Those of 8.6 have the least shared memory.
    return torch.float32, torch.float16, torch.bfloat16


@pytest.fixture
def backend(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[torch.device]:
    """Run the ops on one of the built backends: each CPU instruction set, the emulated GPU, a GPU.

    Yields the device for the tensors.
    """
    name: str = request.param
    if name == "cuda":
        yield torch.device("cuda")
        return
    on_cpu = {"emulated_amx": _emulation.amx, **_C.cpu_instruction_sets}
    kernels = on_cpu.get(name, _emulation)
    if kernels is _emulation:
        _emulation.set_seed(torch.seed() % 2**63)
        _emulation.set_compute_capability(86 if name == "emulation_86" else 90)
    chosen = _registry.Backend(kernels, lambda _device: torch.get_num_threads())
    monkeypatch.setattr(_registry, "CPU", chosen)
    yield torch.device("cpu")
    _emulation.set_compute_capability(90)


@pytest.fixture
def kernels(backend: torch.device) -> Callable[[str], _registry.Backend]:
    """The backend's kernels, given the name of one; skips the test where it has no such kernel."""
    chosen = _registry.CPU if backend.type == "cpu" else _registry.cuda_backend()

    def having(name: str) -> _registry.Backend:
        if not chosen.has(name):
            pytest.skip(f"this backend has no kernel {name} yet")
        return chosen

    return having


@dataclass(frozen=True)
class Convolutions:
    """A backend's convolutions in one element type, and how exact they are."""

    having: Callable[[str], _registry.Backend]
    device: torch.device
    dtype: torch.dtype
    on_a_gpu: bool  # a real or an emulated one

    @property
    def multiplies_tf32(self) -> bool:
        """Whether float32 loses 13 bits of its fraction when it is multiplied."""
        return self.on_a_gpu and self.dtype == torch.float32

    @property
    def multiprocessors(self) -> int:
        """Of the GPU, real or emulated."""
        if self.device.type == "cuda":
            return int(torch.cuda.get_device_properties(self.device).multi_processor_count)
        return _emulation.multiprocessors

    def operand(self, tensor: Tensor) -> Tensor:
        """The tensor in the element type, rounded to what is multiplied."""
        rounded = tensor.to(self.dtype)
        if self.multiplies_tf32:
            # 13 bits less of the fraction; what is half a unit or more rounds up.
            rounded = ((rounded.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
        return rounded.to(self.device)

    def accumulator(self, tensor: Tensor) -> Tensor:
        """The tensor in the type in which sums are formed."""
        return tensor.to(self.summed).to(self.device)

    @property
    def summed(self) -> torch.dtype:
        """The type in which sums are formed, and whose tolerance they have."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def stored(self) -> torch.dtype:
        """The type whose tolerance stored feature maps have: float16 is as exact as tf32."""
        return torch.float16 if self.multiplies_tf32 else self.dtype

    def packed(self, rows: Tensor) -> Tensor:
        """Weights (output channels, K) in the order in which the backend reads them."""
        kernels = self.having("segment_convolution").kernels
        return in_panels(rows, kernels.weight_layout(str(self.dtype).removeprefix("torch.")))

    def run(self, name: str, *arguments: Any) -> None:
        """Run a kernel; skips the test where the backend does not have it."""
        self.having(name).run(name, self.device, *arguments)


@pytest.fixture
def convolutions(
    backend: torch.device,
    kernels: Callable[[str], _registry.Backend],
    engine_type: torch.dtype,
    request: pytest.FixtureRequest,
) -> Convolutions:
    """Each backend's convolutions in each element type that they know."""
    on_a_cpu = (*_C.cpu_instruction_sets, "emulated_amx")
    on_a_gpu = request.node.callspec.params["backend"] not in on_a_cpu
    return Convolutions(kernels, backend, engine_type, on_a_gpu)


@pytest.fixture
def winograd(
    backend: torch.device,
    kernels: Callable[[str], _registry.Backend],
    winograd_type: torch.dtype,
) -> Convolutions:
    """Each backend's convolutions in the types that have Winograd's, of those that have them."""
    return Convolutions(kernels, backend, winograd_type, on_a_gpu=False)


@pytest.fixture
def training_backend(kernels: Callable[[str], _registry.Backend]) -> _registry.Backend:
    """Each of the backends that have what only trainings run."""
    return kernels("filter_gradient")


@pytest.fixture(params=FLOATING_TYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fill what torch.empty returns with NaN, so that an element no kernel wrote shows.

    And let cuDNN multiply float32 as such, by which gradients are tested.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    with exact_float32(torch.device("cuda")):
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def assert_matches() -> Callable[..., None]:
    """Compare a result with its float64 reference at the tolerance of an element type."""

    def check(
        actual: Tensor,
        expected: Tensor,
        dtype: torch.dtype,
        factor: float = 1.0,
        intermediate: float = 0.0,
    ) -> None:
        """Args as said; ``intermediate``: a larger value that the computation passes through."""
        assert expected.dtype == torch.float64
        assert actual.shape == expected.shape
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        tolerance = factor * TOLERANCES[dtype] * max(largest, intermediate)
        torch.testing.assert_close(
            actual.double().cpu(), expected.cpu(), rtol=0, atol=tolerance, equal_nan=True
        )

    return check


@pytest.fixture
def no_signal_is_ignored() -> Iterator[None]:
    """As SIGHUP is in tests that nohup runs, and SIGINT in a script's background."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.fixture
def preloaded(tmp_path: Path) -> Callable[[str], Path]:
    """Compile a source of tests/processes for LD_PRELOAD; skips the test where no compiler is."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")

    def compiled(name: str) -> Path:
        library = (tmp_path / name).with_suffix(".so")
        source = Path(__file__).parent / "processes" / name
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
        return library

    return compiled


@pytest.fixture
def shared_data() -> Path:
    """The folder with real images beside the checkout; skips the test where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real images are not here (expected in ../shared/data)")
    return folder


def as_layout(tensor: Tensor, layout: str) -> Tensor:
    """A tensor of the same values in another memory layout."""
    if layout == "planes":
        return tensor.contiguous()
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    padded = torch.cat([tensor, torch.full_like(tensor, float("nan"))], dim=1)
    if layout == "planes_slice":
        return padded.contiguous()[:, : tensor.shape[1]]
    if layout == "channels_last_slice":
        return padded.contiguous(memory_format=torch.channels_last)[:, : tensor.shape[1]]
    assert layout == "strided"
    spread = torch.full((*tensor.shape[:3], 2 * tensor.shape[3]), float("nan")).to(tensor)
    spread[..., ::2] = tensor
    return spread[..., ::2]


LAYOUTS = ("planes", "channels_last", "planes_slice", "channels_last_slice", "strided")


@pytest.fixture(params=LAYOUTS)
def in_layout(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    """Bring a tensor into each memory layout in turn; what lies between its elements is NaN."""
    return lambda tensor: as_layout(tensor, request.param)


class ReferenceNetworks:
    """Random networks in float64, and the method written out on them in plain torch."""

    def __init__(self, size: Size, input_size: tuple[int, int]) -> None:
        self.input_size = input_size
        networks = {
            name: nn.Sequential(*(self._module(layer) for layer in layers)).eval()
            for name, layers in model_layers(size, input_size).items()
        }
        # A model file wants images of a useful size; the engine takes whatever holds a feature.
        kind = Model if min(input_size) >= MINIMUM_INPUT_SIZE else SimpleNamespace
        self.model: Any = kind(
            size=size,
            input_size=input_size,
            teacher=dict(networks["teacher"].state_dict()),
            student=dict(networks["student"].state_dict()),
            autoencoder=dict(networks["autoencoder"].state_dict()),
            teacher_mean=torch.randn(384),
            teacher_deviation=torch.rand(384) + 0.5,
            quantiles=(1.0, 2.5, 0.8, 1.7),
            threshold=0.1,
            map_threshold=0.1,
            training={},
        )
        self.networks = {name: copy.deepcopy(net).double() for name, net in networks.items()}

    @staticmethod
    def _module(layer: Layer) -> nn.Module:
        if isinstance(layer, Convolution):
            module = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding
            )
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            return module
        if isinstance(layer, ReLU):
            return nn.ReLU()
        if isinstance(layer, AveragePool):
            return nn.AvgPool2d(2, 2, layer.padding)
        if isinstance(layer, Dropout):
            return nn.Dropout(layer.probability)
        return nn.Upsample(layer.size, mode="bilinear")

    @staticmethod
    def normalised(image: np.ndarray[Any, Any] | Tensor) -> Tensor:
        """(N, 3, H, W) float64 from integers (H, W, 3) or (N, H, W, 3), as the networks want it."""
        pixels = torch.from_numpy(np.asarray(image) / np.iinfo(np.asarray(image).dtype).max)
        mean, deviation = (
            torch.tensor(colour, dtype=torch.float64).view(3, 1, 1)
            for colour in (IMAGENET_MEAN, IMAGENET_DEVIATION)
        )
        batch = pixels if pixels.dim() == 4 else pixels[None]
        return (batch.permute(0, 3, 1, 2) - mean) / deviation

    @torch.no_grad()
    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The local and the global map of normalised images."""
        x = x.double()
        teacher = self.normalised_teacher(x)
        student = self.networks["student"](x)
        small = functional.interpolate(x, (256, 256), mode="bilinear", antialias=True)
        autoencoder = self.networks["autoencoder"](small)
        local_map = (teacher - student[:, :384]).square().mean(1, keepdim=True)
        global_map = (autoencoder - student[:, 384:]).square().mean(1, keepdim=True)
        return local_map, global_map

    def combined(self, x: Tensor) -> Tensor:
        """The mean of the calibrated maps, on the feature grid."""
        local_map, global_map = self.maps(x)
        local_a, local_b, global_a, global_b = self.model.quantiles
        local_map = 0.1 * (local_map - local_a) / (local_b - local_a)
        global_map = 0.1 * (global_map - global_a) / (global_b - global_a)
        return (local_map + global_map) / 2

    @torch.no_grad()
    def features(self, x: Tensor, source: str = "student") -> Tensor:
        """PUAD's feature: the mean over space of the student's first 384 channels, or T's."""
        x = x.double()
        teacher = source == "teacher"
        maps = self.normalised_teacher(x) if teacher else self.networks["student"](x)[:, :384]
        return maps.mean(dim=(2, 3))

    @torch.no_grad()
    def normalised_teacher(self, x: Tensor) -> Tensor:
        """What the student imitates."""
        mean, deviation = self.model.teacher_mean, self.model.teacher_deviation
        teacher = self.networks["teacher"](x.double())
        return (teacher - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)


@pytest.fixture(scope="session")
def reference_networks() -> type[ReferenceNetworks]:
    """Random networks of a size ("small", "medium") for an input size, in float64."""
    return ReferenceNetworks


@pytest.fixture(scope="session")
def tiny_config() -> TrainingConfig:
    """Settings of a run that is over in seconds; how well it detects is not its point."""
    return TrainingConfig("small", (128, 128), steps=4, seed=3, precision="float32")


@pytest.fixture(scope="session")
def tiny_teacher() -> Teacher:
    return random_teacher("small")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the layout of MVTec AD with validation images of its own."""
    root = tmp_path_factory.mktemp("cloth")
    make_dataset(root, train=6, validation=3, test_good=3, test_each_defect=2, seed=11)
    return root


@pytest.fixture(scope="session")
def tiny_model(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_data: Path,
    tiny_teacher: Teacher,
    tiny_config: TrainingConfig,
) -> Path:
    """The model file of a run with ``tiny_config`` on ``tiny_data``."""
    output = tmp_path_factory.mktemp("model") / "model.safetensors"
    train(tiny_data, output, tiny_teacher, tiny_config)
    return output


class ParsedPage(HTMLParser):
    """What a page of HTML consists of; every element that is opened has to be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.json = ""
        self.feed(text)
        self.close()
        assert self.open == []  # every element is closed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.json += data
        else:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def page_parser() -> type[ParsedPage]:
    """Reads a page from its text."""
    return ParsedPage


@pytest.fixture(scope="session")
def tiny_report(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_data: Path
) -> Path:
    """What ``evaluate`` leaves of ``tiny_model`` on ``tiny_data``: f.json and a/<b>/report.html."""
    folder = tmp_path_factory.mktemp("out")
    arguments = [tiny_model, tiny_data, "--json", folder / "f.json", "--report", folder / "a/<b>"]
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert f"report: {folder / 'a/<b>/report.html'}" in result.stdout
    return folder


@pytest.fixture
def warnings_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that efficientad tells the user in its log."""
    caplog.set_level(logging.INFO, logger="efficientad")
    return caplog


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven photos to distil from."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 7)
    return folder
