from __future__ import annotations

import json
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientad import distillation_run, long_run
from efficientad.checkpoint import checkpoint_path
from efficientad.crops import batch, central_crop, random_crop
from efficientad.distillation import DistillationConfig, distill
from efficientad.distillation_images import find_distillation_images
from efficientad.distillation_run import DistillationRun, falls_from, least_steps, rate_share
from efficientad.networks import pdn
from efficientad.randomness import Purpose, generator
from efficientad.teacher import load_teacher
from efficientad.teacher_optimizer import LEARNING_RATES, OptimizerName, TeacherOptimizer
from efficientad.workers import Workers
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_distillation import TINY, TinyBackbone, write_photos
from torch import Tensor, nn
from torch.nn import functional

# Distils with a tiny backbone in a process of its own, or in each of several under torchrun.
SCRIPT = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
from dataclasses import replace
import torch
from efficientad.distillation import distill
from tiny_distillation import TINY, TinyBackbone

torch.set_num_threads(1)
config = replace(TINY, optimizer=sys.argv[3])
loss = distill([sys.argv[1]], sys.argv[2], TinyBackbone(), config)
print("loss", loss)
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The teacher file of an unbroken run with the settings in TINY."""
    output = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation_run, "HELD_OUT_EVERY", 2)
        distill([photos], output, TinyBackbone(), TINY)
    return output


def record_of(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["efficientad-teacher"]))


def test_the_teacher_can_be_loaded_and_says_how_it_was_made(teacher: Path):
    loaded = load_teacher(teacher, "small")
    pdn("small", 384).load_state_dict(loaded.weights)
    record = record_of(teacher)
    assert record["steps"] == 4
    assert record["backbone"] == "TinyBackbone"
    assert (record["images"], record["held-out images"]) == (6, 1)
    assert [step for step, _ in record["held-out loss"]] == [2, 4]
    assert not checkpoint_path(teacher).exists()


def test_stopped_and_resumed_gives_the_same_file_as_an_unbroken_run(
    tmp_path: Path, photos: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(distillation_run, "HELD_OUT_EVERY", 2)
    monkeypatch.setattr(long_run, "CHECKPOINT_SECONDS", 0.0)
    output = tmp_path / "teacher.safetensors"
    steps_before_failure = iter((1, 2))
    do_step = DistillationRun._do_step
    for steps in steps_before_failure:
        left = steps

        def failing(self: DistillationRun, *arguments: object) -> None:
            nonlocal left
            if left == 0:
                raise OSError("the power fails")
            left -= 1
            do_step(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(DistillationRun, "_do_step", failing)
            with pytest.raises(OSError, match="power"):
                distill(
                    [photos], output, TinyBackbone(), TINY, resume=checkpoint_path(output).exists()
                )
        assert not output.exists()
    distill([photos], output, TinyBackbone(), TINY, resume=True)
    assert output.read_bytes() == teacher.read_bytes()


def test_a_finished_run_is_not_made_again(
    tmp_path: Path, photos: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "teacher.safetensors"
    shutil.copy(teacher, output)
    with monkeypatch.context() as patch:
        patch.setattr(DistillationRun, "to_the_end", None)
        loss = distill([photos], output, TinyBackbone(), TINY, resume=True)
    assert loss == record_of(teacher)["held-out loss"][-1][1]
    assert output.read_bytes() == teacher.read_bytes()
    with pytest.raises(ValueError, match="another setting: steps"):
        distill([photos], output, TinyBackbone(), replace(TINY, steps=TINY.steps + 1), resume=True)


def test_the_number_of_steps_that_an_error_advises_is_taken():
    for step in range(1, 500):
        least = least_steps(step)
        assert falls_from(least) >= step > falls_from(least - 1)


def test_half_precision_halves_the_file_and_rounds_the_weights(
    tmp_path: Path, photos: Path, teacher: Path
):
    output = tmp_path / "half.safetensors"
    distill([photos], output, TinyBackbone(), replace(TINY, half=True))
    assert output.stat().st_size < 0.51 * teacher.stat().st_size
    for name, tensor in load_file(teacher).items():
        stored = load_file(output)[name]
        assert stored.dtype == torch.float16
        assert torch.equal(stored, tensor.half())


def a_run(photos: Path, config: DistillationConfig = TINY) -> DistillationRun:
    images = find_distillation_images([photos], config.seed)
    workers = Workers(0, 1, torch.device("cpu"))
    return DistillationRun(config, images, TinyBackbone(), workers, photos / "none.checkpoint")


def test_targets_are_normalised_over_the_photos_and_a_dead_channel_stays_finite(photos: Path):
    run = a_run(photos)
    run._measure_targets()
    store = run.photos.train
    crops = [
        random_crop(store[i], generator(TINY.seed, Purpose.STATISTICS_CROP, i))
        for i in range(len(store))
    ]
    descriptors = torch.cat([run._descriptors_of([crop]).double() for crop in crops])
    mean, deviation = descriptors.mean((0, 2, 3)), descriptors.std((0, 2, 3), correction=0)
    torch.testing.assert_close(run.mean.double(), mean, rtol=1e-5, atol=1e-5)
    alive = torch.arange(384) != 191
    torch.testing.assert_close(run.deviation[alive].double(), deviation[alive], rtol=1e-5, atol=0)
    assert deviation[191] == 0
    assert run.deviation[191] == run.deviation[alive].median()


def test_the_loss_is_the_mean_squared_error_to_the_targets(photos: Path):
    run = a_run(photos)
    run.mean, run.deviation = torch.randn(384), torch.rand(384) + 0.5
    crops = [run._training_crop(number) for number in (0, 1)]
    with torch.no_grad():
        found = run._squared_error(run.network, crops).mean()
    device = torch.device("cpu")
    targets = run.descriptors.double()(batch(crops, 512, device).double())
    targets = (targets - run.mean.view(-1, 1, 1)) / run.deviation.view(-1, 1, 1)
    features = run.network.double()(batch(crops, 256, device).double())
    expected = functional.mse_loss(features, targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 2e-3), ("adam", 2e-4)])
def test_distillation_learns(
    tmp_path: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: OptimizerName,
    rate: float,
):
    monkeypatch.setattr(distillation_run, "HELD_OUT_EVERY", 1)
    monkeypatch.setitem(LEARNING_RATES, optimizer, rate)
    monkeypatch.setattr(distillation_run, "WARM_UP_STEPS", 2)
    config = replace(TINY, steps=8, precision="auto", optimizer=optimizer)
    output = tmp_path / "teacher.safetensors"
    backbone = TinyBackbone()
    loss = distill([photos], output, backbone, config)
    assert backbone.fine.dtype == torch.float32
    curve = [held_out for _, held_out in record_of(output)["held-out loss"]]
    assert loss == curve[-1]
    assert curve[-1] < 0.9 * curve[0]


@pytest.mark.parametrize(("optimizer", "rounding"), [("muon", 1e-3), ("adam", 2e-4)])
def test_two_workers_get_what_one_gets(
    tmp_path: Path, photos: Path, optimizer: OptimizerName, rounding: float
):
    """Alone and under torchrun, each in processes with one thread: the same but for rounding."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    losses = []
    for name, launcher in (("one", []), ("two", torchrun)):
        output = tmp_path / f"{name}.safetensors"
        command = [sys.executable, *launcher, script, photos, output, optimizer]
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        losses.append([line.split()[1] for line in done.stdout.splitlines() if "loss" in line])
    (alone,), shared = losses
    assert len(shared) == 2
    (together,) = (float(loss) for loss in shared if loss != "None")
    assert together == pytest.approx(float(alone), rel=1e-5)
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    for name, before in a_run(photos).network.state_dict().items():
        moved = (one[name] - before).norm()
        assert (two[name] - one[name]).norm() < rounding * moved
        if optimizer == "adam":
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5)


def test_the_rate_rises_stays_declines_and_falls():
    shares = [rate_share(step, 10_000) for step in (0, 99, 499, 1_999, 7_000, 8_500, 9_999)]
    at_the_fall, half_way = (500 / 7_001) ** 0.5, (500 / 8_501) ** 0.5 / 2
    assert shares == pytest.approx([0.01, 1, 1, 0.5, at_the_fall, half_way, 0], abs=1e-4)
    assert rate_share(6_000, 10_000) == rate_share(6_000, 9_000)
    assert rate_share(99, 10_000, steps_before=7_900) == pytest.approx(0.25)


def nearly_orthogonal(matrix: Tensor) -> Tensor:
    """What Muon makes of a matrix, from its singular values, in float64."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left * values @ right


def test_muon_moves_hidden_convolutions_by_orthogonal_matrices_and_adam_the_rest():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 2), nn.Conv2d(6, 4, 1))
    network = network.to(memory_format=torch.channels_last)
    optimizer = TeacherOptimizer(network, "muon")
    rate, share = LEARNING_RATES["muon"], 0.5
    momenta: dict[str, Tensor] = {}
    for _ in range(2):
        before = {name: value.detach().clone() for name, value in network.named_parameters()}
        for value in network.parameters():
            value.grad = torch.randn_like(value)
        gradients = {name: value.grad.clone() for name, value in network.named_parameters()}
        optimizer.step(share)
        for name, value in network.named_parameters():
            moved = (value.detach() - before[name]).double()
            if name not in ("1.weight", "2.weight"):
                assert moved.abs().max() <= 1.5 * share * rate
                continue
            gradient = gradients[name].flatten(1)
            momenta[name] = 0.95 * momenta.get(name, 0) + 0.05 * gradient
            wanted = nearly_orthogonal(0.05 * gradient + 0.95 * momenta[name])
            moved += 0.1 * share * rate * before[name].double()
            step = -moved.flatten(1) / (share * rate * 0.2 * max(wanted.shape) ** 0.5)
            assert (step - wanted).norm() < 1e-3 * wanted.norm()
            values = torch.linalg.svdvals(step)
            assert values.min() > 0.6
            assert values.max() < 1.25
        assert all(value.grad is None for value in network.parameters())


def test_adam_is_torchs_adam_for_every_weight():
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 2))
    network = network.to(memory_format=torch.channels_last)
    other = deepcopy(network)
    optimizer = TeacherOptimizer(network, "adam")
    expected = torch.optim.Adam(other.parameters(), lr=LEARNING_RATES["adam"], weight_decay=1e-5)
    for _ in range(3):
        for one, two in zip(network.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            two.grad = one.grad.clone()
        optimizer.step(1.0)
        expected.step()
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-7)


def test_a_run_can_be_made_longer_until_its_rate_falls(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(long_run, "CHECKPOINT_SECONDS", 0.0)
    output = tmp_path / "teacher.safetensors"

    def run_until(step: int, steps: int, resume: bool = True) -> None:
        def instead(self: DistillationRun, *_: object) -> None:
            if self.step == step:
                raise OSError("stopped")
            self.step += 1
            self.curve.append((self.step, 0.5))

        with monkeypatch.context() as patch:
            patch.setattr(DistillationRun, "_do_step", instead)
            distill([photos], output, TinyBackbone(), replace(TINY, steps=steps), resume=resume)

    with pytest.raises(OSError, match="stopped"):
        run_until(2, steps=4, resume=False)
    with pytest.raises(ValueError, match="give --steps 4, or 3 or more"):
        run_until(3, steps=2)
    with pytest.raises(OSError, match="stopped"):
        run_until(9, steps=10)
    with pytest.raises(ValueError, match="give --steps 10, no other"):
        run_until(3, steps=40)
    run_until(-1, steps=10)
    assert record_of(output)["steps"] == 10


def test_too_few_photos(tmp_path: Path):
    output = tmp_path / "teacher.safetensors"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        distill([empty], output, TinyBackbone(), TINY)
    write_photos(tmp_path / "one", 1)
    with pytest.raises(ValueError, match="at least two photos"):
        distill([tmp_path / "one"], output, TinyBackbone(), TINY)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        distill([tmp_path / "none"], output, TinyBackbone(), TINY)


def test_unusable_photos_are_replaced_and_counted(
    tmp_path: Path, warnings_logged: pytest.LogCaptureFixture
):
    paths = write_photos(tmp_path / "photos", 6)
    paths[0].write_text("no image")
    write_photos(tmp_path / "photos" / "small", 1, side=(100, 300))
    config = replace(TINY, steps=1)
    distill([tmp_path / "photos"], tmp_path / "teacher.safetensors", TinyBackbone(), config)
    assert "00.png cannot be read as an image" in warnings_logged.text
    assert "has 100x300 pixels; expected at least 128x128" in warnings_logged.text
    assert "2 photos could not be used" in warnings_logged.text


def test_only_unusable_photos(tmp_path: Path):
    write_photos(tmp_path / "photos", 4, side=(100, 100))
    with pytest.raises(ValueError, match="none of the training images can be used"):
        distill([tmp_path / "photos"], tmp_path / "teacher.safetensors", TinyBackbone(), TINY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "large"}, "size is 'large'"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected muon or adam"),
    ],
)
def test_settings_out_of_range(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_a_checkpoint_of_another_backbone_is_refused(tmp_path: Path, photos: Path):
    output = tmp_path / "teacher.safetensors"
    run = a_run(photos)
    run.checkpoint = checkpoint_path(output)
    run._save()
    with pytest.raises(FileExistsError, match="--resume"):
        distill([photos], output, TinyBackbone(), TINY)
    with pytest.raises(ValueError, match=r"backbone's fingerprint is \w+ there and \w+ here"):
        distill([photos], output, TinyBackbone(seed=1), TINY, resume=True)


def test_divergence_is_an_error_and_not_a_teacher(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    def diverging(self: DistillationRun, *arguments: object) -> Tensor:
        return squared_error(self, *arguments) * float("inf")

    squared_error = DistillationRun._squared_error
    monkeypatch.setattr(DistillationRun, "_squared_error", diverging)
    with pytest.raises(RuntimeError, match="diverged: at step 1"):
        distill([photos], tmp_path / "t.safetensors", TinyBackbone(), replace(TINY, steps=1))
    assert not (tmp_path / "t.safetensors").exists()


def test_crops_stay_inside_the_photo_and_keep_their_proportions():
    random = np.random.default_rng(0)
    for rows, columns in ((128, 128), (150, 400), (400, 150), (300, 260)):
        place = torch.arange(rows * columns, dtype=torch.int32).reshape(rows, columns)
        shapes = []
        for _ in range(60):
            crop = random_crop(place.to(torch.uint16), random).pixels
            height, width = crop.shape
            shapes.append((height, width))
            assert 0.75 * min(rows, columns) - 1 <= min(height, width)
            assert max(height, width) <= 4 / 3 * min(height, width) + 1
        heights, widths = np.array(shapes).T
        assert len(set(heights)) > 10
        assert len(set(widths)) > 10


def test_crops_are_mirrored_and_gray_now_and_then():
    random = np.random.default_rng(1)
    photo = torch.arange(200, dtype=torch.uint8).expand(128, 200)
    crops = [random_crop(photo, random) for _ in range(300)]
    assert 120 < sum(crop.mirrored for crop in crops) < 180
    assert 15 < sum(crop.gray for crop in crops) < 50


def test_teacher_and_backbone_see_the_same_crop():
    """At half the size, the backbone's picture is the teacher's; a gray one has one colour."""
    pixels = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (300, 280, 3), np.uint8))
    device = torch.device("cpu")
    smooth = functional.avg_pool2d(pixels.movedim(-1, 0).float(), 31, 1, 15).movedim(0, -1)
    crop = central_crop(smooth.to(torch.uint8))
    assert crop.pixels.shape == (280, 280, 3)
    teacher, backbone = batch([crop], 256, device), batch([crop], 512, device)
    assert teacher.is_contiguous(memory_format=torch.channels_last)
    assert (functional.avg_pool2d(backbone, 2) - teacher).abs().max() < 0.05
    mirrored = batch([replace(crop, mirrored=True)], 256, device)
    assert torch.equal(mirrored, teacher.flip(-1))
    gray = batch([replace(crop, gray=True)], 256, device)[0]
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    values = gray * deviation + mean
    torch.testing.assert_close(values[0], values[2], rtol=0, atol=1e-5)
    luma = (teacher[0] * deviation + mean).mul(torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1))
    torch.testing.assert_close(values[0], luma.sum(0), rtol=0, atol=1e-5)
