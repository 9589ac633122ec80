"""Whatever mode of torch the caller is in, runs give what they give outside of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from efficientad.backbones import load_backbone
from efficientad.calibration import calibrate
from efficientad.distillation import distill
from efficientad.evaluation import evaluate
from efficientad.teacher import Teacher
from efficientad.training import TrainingConfig, train
from efficientad.weight_files import fingerprint
from tiny_distillation import TINY, TinyBackbone

from efficientad_ext.detector import Detector
from efficientad_ext.inference import Networks
from efficientad_ext.model_file import load_model, save_model


@contextlib.contextmanager
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def modes() -> tuple[object, ...]:
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.empty(()).device,
    )


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": float64_by_default,
    "meta": lambda: torch.device("meta"),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[AbstractContextManager[object]]:
    """Each of torch's modes in turn, to be entered once; what runs in it must leave it alone."""

    @contextlib.contextmanager
    def entered() -> Iterator[None]:
        with MODES[request.param]():
            before = modes()
            yield
            assert modes() == before

    outside = modes()
    yield entered()
    assert modes() == outside


def test_training(
    tmp_path: Path,
    tiny_data: Path,
    tiny_teacher: Teacher,
    tiny_config: TrainingConfig,
    tiny_model: Path,
    mode: AbstractContextManager[object],
):
    output = tmp_path / "model.safetensors"
    with mode:
        train(tiny_data, output, tiny_teacher, tiny_config)
    assert output.read_bytes() == tiny_model.read_bytes()


def test_calibration_and_evaluation(
    tmp_path: Path, tiny_data: Path, tiny_model: Path, mode: AbstractContextManager[object]
):
    images = sorted((tiny_data / "validation" / "good").iterdir())
    files = [tmp_path / "outside.safetensors", tmp_path / "inside.safetensors"]
    scores = []
    for file, around in zip(files, (contextlib.nullcontext(), mode), strict=True):
        with around:
            save_model(calibrate(load_model(tiny_model), images, puad_images=images), file)
            scores.append([one.score for one in evaluate(Detector.load(file), tiny_data).scored])
    assert files[0].read_bytes() == files[1].read_bytes()
    assert scores[0] == scores[1]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    output = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    distill([photos], output, TinyBackbone(), TINY)
    return output


def test_distillation(
    tmp_path: Path, photos: Path, teacher: Path, mode: AbstractContextManager[object]
):
    output = tmp_path / "teacher.safetensors"
    backbone = TinyBackbone()
    with mode:
        distill([photos], output, backbone, TINY)
    assert output.read_bytes() == teacher.read_bytes()


def test_backbone(mode: AbstractContextManager[object]):
    expected = load_backbone("efficientnet_lite2").state_dict()
    with mode:
        found = load_backbone("efficientnet_lite2").state_dict()
    assert fingerprint(found) == fingerprint(expected)


def test_a_distillation_leaves_torchs_global_generator_alone(
    tmp_path: Path, photos: Path, teacher: Path
):
    before = torch.get_rng_state()
    load_backbone("efficientnet_lite2")
    output = tmp_path / "teacher.safetensors"
    distill([photos], output, TinyBackbone(), TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert output.read_bytes() == teacher.read_bytes()


def test_torchs_networks_stay_in_float32(tiny_model: Path):
    """They are what a detector in float32 runs on a GPU."""
    model = load_model(tiny_model)
    networks = Networks(model, torch.device("cpu"), torch.float32, 1)
    image = torch.randn(1, 3, *model.input_size)
    expected = networks(image)
    with torch.autocast("cpu", torch.bfloat16):
        actual = networks(image)
    assert all(map(torch.equal, actual, expected))
