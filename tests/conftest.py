"""What tests share: the ops' backends and comparisons, and a tiny trained model."""

from __future__ import annotations

import os

# Before torch starts its threads: idle ones that spin slow everything down where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# What cuBLAS needs to compute references repeatably on a GPU; see poisoned_memory.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from efficientad.teacher import Teacher, random_teacher
from efficientad.textures import make_dataset
from efficientad.training import TrainingConfig, train
from torch import Tensor

from efficientad_ext import _C, _emulation, _registry

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
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Run the ops on one of the built backends: each CPU instruction set, the emulated GPU, a GPU.

    Returns the device for the tensors.
    """
    name: str = request.param
    if name == "cuda":
        return torch.device("cuda")
    kernels = _emulation if name == "emulation" else _C.cpu_instruction_sets[name]
    if name == "emulation":
        _emulation.set_seed(torch.seed() % 2**63)
    chosen = _registry.Backend(kernels, lambda _device: torch.get_num_threads())
    monkeypatch.setattr(_registry, "CPU", chosen)
    return torch.device("cpu")


@pytest.fixture(params=FLOATING_TYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fill what torch.empty returns with NaN, so that an element no kernel wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
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


@pytest.fixture(scope="session")
def tiny_config() -> TrainingConfig:
    """Settings of a run that is over in seconds; how well it detects is not its point."""
    return TrainingConfig(size="small", input_size=(128, 128), steps=4, seed=3)


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


@pytest.fixture
def warnings_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that efficientad tells the user in its log."""
    caplog.set_level(logging.INFO, logger="efficientad")
    return caplog
