from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from efficientad import long_run
from efficientad.checkpoint import checkpoint_path
from efficientad.distillation import distill
from efficientad.distillation_images import find_distillation_images
from efficientad.distillation_run import LEAST_STEPS_BEFORE, DistillationRun, rate_share
from efficientad.initial_teacher import load_initial_teacher
from efficientad.networks import pdn
from efficientad.teacher import load_teacher, save_teacher, teacher_record
from efficientad.teacher_optimizer import TeacherOptimizer
from efficientad.widening import widen
from efficientad.workers import Workers
from tiny_distillation import TINY, TinyBackbone, write_photos
from torch import Tensor


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A small teacher after two steps with two crops each."""
    output = tmp_path_factory.mktemp("teacher") / "small.safetensors"
    distill([photos], output, TinyBackbone(), replace(TINY, steps=2))
    return output


def random_state(size: str, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = pdn(size, 384, padded=True)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return network.state_dict()


@pytest.mark.parametrize("padded", [False, True])
def test_a_widened_teacher_computes_what_the_small_one_does(padded: bool):
    small, medium = random_state("small", 1), random_state("medium", 2)
    before = {name: tensor.clone() for name, tensor in medium.items()}
    widen(medium, small)
    networks = []
    for size, state in (("small", small), ("medium", medium)):
        network = pdn(size, 384, padded)
        network.load_state_dict(state)
        networks.append(network.double())
    image = torch.randn(2, 3, 128, 140, dtype=torch.float64)
    expected, found = (network(image) for network in networks)
    assert expected.std() > 0.1
    assert expected.min() > -4
    # The lifted bias is rounded to float32, by 2.4e-7 at most.
    torch.testing.assert_close(found, expected, rtol=0, atol=2.4e-7)
    for layer, channels in (("0", 128), ("3", 256), ("6", 256), ("8", 256)):
        for name in (f"{layer}.weight", f"{layer}.bias"):
            assert torch.equal(medium[name][channels:], before[name][channels:])


def test_the_channels_that_nothing_reads_yet_learn_from_the_first_step():
    medium = random_state("medium", 2)
    widen(medium, random_state("small", 1))
    network = pdn("medium", 384, padded=True)
    network.load_state_dict(medium)
    network(torch.randn(1, 3, 128, 128)).square().mean().backward()
    gradient = network.get_parameter("3.weight").grad
    assert (gradient[:256, 128:] != 0).any(dim=(2, 3)).float().mean() > 0.5


def run_from(photos: Path, small: Path, size: str = "small") -> DistillationRun:
    config = replace(TINY, size=size)
    images = find_distillation_images([photos], config.seed)
    workers = Workers(0, 1, torch.device("cpu"))
    initial = load_initial_teacher(small, size)
    checkpoint = photos / "none.checkpoint"
    return DistillationRun(config, images, TinyBackbone(), workers, checkpoint, initial)


def test_a_run_starts_from_the_teachers_weights_at_a_lower_rate(
    photos: Path, small: Path, monkeypatch: pytest.MonkeyPatch
):
    shares: list[float] = []
    monkeypatch.setattr(TeacherOptimizer, "step", lambda _, share: shares.append(share))
    run = run_from(photos, small)
    weights = load_teacher(small, "small").weights
    for name, tensor in run.network.state_dict().items():
        assert torch.equal(tensor, weights[name])
    run._do_step(run.network, [run._training_crop(0)])
    assert shares == [rate_share(0, run.config.steps, LEAST_STEPS_BEFORE)]


@pytest.mark.parametrize("size", ["small", "medium"])
def test_a_run_goes_on_with_the_crops_behind_those_of_its_initial_teacher(
    tmp_path: Path, photos: Path, small: Path, monkeypatch: pytest.MonkeyPatch, size: str
):
    seen: list[int] = []
    make = DistillationRun._training_crop

    def noted(self: DistillationRun, number: int) -> object:
        seen.append(number)
        return make(self, number)

    monkeypatch.setattr(DistillationRun, "_training_crop", noted)
    monkeypatch.setattr(DistillationRun, "_measure_held_out", lambda run: run.curve.append((2, 0)))
    output = tmp_path / "next.safetensors"
    config = replace(TINY, size=size, steps=2)
    distill([photos], output, TinyBackbone(), config, initial_teacher=small)
    assert sorted(seen) == [4, 5, 6, 7]
    initial = load_initial_teacher(output, size)
    assert initial.teacher.size == size
    assert initial.crops == 8
    assert teacher_record(output)["initial teacher"] == load_teacher(small, "small").fingerprint


def test_a_resumed_run_gives_the_same_file_and_must_have_the_same_initial_teacher(
    tmp_path: Path, photos: Path, small: Path, monkeypatch: pytest.MonkeyPatch
):
    unbroken = tmp_path / "unbroken.safetensors"
    distill([photos], unbroken, TinyBackbone(), TINY, initial_teacher=small)
    monkeypatch.setattr(long_run, "CHECKPOINT_SECONDS", 0.0)
    output = tmp_path / "teacher.safetensors"
    do_step = DistillationRun._do_step

    def failing(self: DistillationRun, *arguments: object) -> None:
        if self.step == 2:
            raise OSError("the power fails")
        do_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationRun, "_do_step", failing)
        with pytest.raises(OSError, match="power"):
            distill([photos], output, TinyBackbone(), TINY, initial_teacher=small)
    assert checkpoint_path(output).exists()
    with pytest.raises(ValueError, match="initial teacher is"):
        distill([photos], output, TinyBackbone(), TINY, resume=True)
    distill([photos], output, TinyBackbone(), TINY, initial_teacher=small, resume=True)
    assert output.read_bytes() == unbroken.read_bytes()


def test_held_out_photos_must_be_the_same(tmp_path: Path, photos: Path, small: Path):
    output = tmp_path / "teacher.safetensors"
    other_seed = replace(TINY, seed=4)
    with pytest.raises(ValueError, match="give --seed 3"):
        distill([photos], output, TinyBackbone(), other_seed, initial_teacher=small)
    write_photos(tmp_path / "others", 4)
    distill([tmp_path / "others"], output, TinyBackbone(), other_seed, initial_teacher=small)
    assert output.exists()


def test_initial_teachers_from_elsewhere_and_of_the_wrong_size(tmp_path: Path, small: Path):
    plain = tmp_path / "teacher.pth"
    torch.save(load_teacher(small, "small").weights, plain)
    assert load_initial_teacher(plain, "small").crops == 0
    medium = tmp_path / "medium.safetensors"
    save_teacher(medium, random_state("medium", 1), {})
    assert load_initial_teacher(medium, "medium").crops == 0
    with pytest.raises(ValueError, match="is not a small teacher"):
        load_initial_teacher(medium, "small")
    plain.write_text("nothing")
    with pytest.raises(ValueError, match="not a file of weights"):
        load_initial_teacher(plain, "medium")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_initial_teacher(tmp_path / "none.safetensors", "medium")
