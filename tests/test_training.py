from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientad import networks, training
from efficientad.calibration import CalibrationConfig
from efficientad.checkpoint import checkpoint_path
from efficientad.evaluation import evaluate
from efficientad.interruption import Interruption
from efficientad.statistics import channel_statistics
from efficientad.teacher import Teacher, random_teacher
from efficientad.training import TrainingConfig, learning_rate, train
from safetensors import safe_open

from efficientad_ext.detector import Detector
from efficientad_ext.model_file import load_model, save_model

# A run with a checkpoint after every step instead of every minute. It kills itself in the middle of
# the step whose number is the last argument, counted from 1; 0 lets it live.
RUN = """
import os
import signal
import sys
import torch
from efficientad import long_run, training
from efficientad.teacher import random_teacher

data, photos, output, resume, last_step = sys.argv[1:]
losses_of_step = training.training_losses
calls = 0

def deadly(*arguments):
    global calls
    calls += 1
    if calls == int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)
    return losses_of_step(*arguments)

torch.set_num_threads(1)
long_run.CHECKPOINT_SECONDS = 0.0
training.training_losses = deadly
config = training.TrainingConfig("small", (128, 128), steps=8, seed=3)
training.train(data, output, random_teacher("small"), config,
               penalty_images=photos, resume=resume == "resume")
"""


def run_apart(data: Path, photos: Path, output: Path, resume: str, last_step: int = 0) -> int:
    """The exit status of a run in a process of its own."""
    arguments = [data, photos, output, resume, last_step]
    # -I: not from the source tree in the current folder, which has no compiled module.
    command = [sys.executable, "-I", "-c", RUN, *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=300, check=False).returncode


def steps_done(checkpoint: Path) -> int:
    with safe_open(checkpoint, framework="pt") as file:
        return int(file.metadata()["step"])


def test_killed_and_resumed_gives_the_same_file_as_an_unbroken_run(tmp_path: Path, tiny_data: Path):
    photos = tiny_data / "test" / "stain"
    unbroken, broken = tmp_path / "unbroken.safetensors", tmp_path / "broken.safetensors"
    checkpoint = checkpoint_path(broken)
    assert run_apart(tiny_data, photos, unbroken, "new") == 0

    # Two kills: the second one hits the third step of the resumed run.
    for resume, last_step, done in (("new", 4, 3), ("resume", 3, 5)):
        assert run_apart(tiny_data, photos, broken, resume, last_step) == -signal.SIGKILL
        assert not broken.exists()
        assert steps_done(checkpoint) == done

    assert run_apart(tiny_data, photos, broken, "resume") == 0
    assert broken.read_bytes() == unbroken.read_bytes()
    assert not checkpoint.exists()


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path,
    tiny_data: Path,
    tiny_model: Path,
    tiny_config: TrainingConfig,
    tiny_teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
    warnings_logged: pytest.LogCaptureFixture,
):
    output = tmp_path / "model.safetensors"
    # Calibrated since: that stays, too.
    save_model(replace(load_model(tiny_model), threshold=7.0), output)
    content = output.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(training, "initial_networks", None)
        model = train(tiny_data, output, tiny_teacher, tiny_config, resume=True)
    assert model.threshold == 7
    assert output.read_bytes() == content
    assert f"{output} is finished: there is nothing to resume" in warnings_logged.text
    with pytest.raises(ValueError, match="another setting: steps is 4 there and 1 here"):
        train(tiny_data, output, tiny_teacher, replace(tiny_config, steps=1), resume=True)
    assert output.read_bytes() == content


def test_an_ignored_signal_stays_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interruption.requested
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.usefixtures("no_signal_is_ignored")
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
        (signal.SIGINT, KeyboardInterrupt),
    ],
)
def test_a_signal_saves_the_state_and_the_rest_can_be_done_later(
    tmp_path: Path,
    tiny_data: Path,
    tiny_model: Path,
    tiny_config: TrainingConfig,
    tiny_teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
    warnings_logged: pytest.LogCaptureFixture,
    number: signal.Signals,
    expected: type[BaseException],
):
    output = tmp_path / "model.safetensors"
    losses_of_step = training.training_losses
    calls = 0

    def interrupted(*arguments):
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), number)
        return losses_of_step(*arguments)

    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(training, "training_losses", interrupted)
        with pytest.raises(expected) as caught:
            train(tiny_data, output, tiny_teacher, tiny_config)
    if expected is SystemExit:
        assert caught.value.code == 128 + number
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert steps_done(checkpoint_path(output)) == 2
    assert "--resume" in warnings_logged.text
    assert not output.exists()
    train(tiny_data, output, tiny_teacher, tiny_config, resume=True)
    assert output.read_bytes() == tiny_model.read_bytes()


def test_torchs_global_generator_is_the_callers_and_other_threads(
    tmp_path: Path,
    tiny_data: Path,
    tiny_teacher: Teacher,
    tiny_config: TrainingConfig,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Drawing from it meanwhile changes no result, and nothing else changes it."""
    draws = 0

    def drawing(function: Callable[..., Any]) -> Callable[..., Any]:
        def draw_first(*arguments: Any, **keywords: Any) -> Any:
            nonlocal draws
            draws += 1
            torch.rand(7)
            return function(*arguments, **keywords)

        return draw_first

    monkeypatch.setattr(networks, "autoencoder", drawing(networks.autoencoder))
    monkeypatch.setattr(training, "training_losses", drawing(training.training_losses))
    before = torch.get_rng_state()
    output = tmp_path / "model.safetensors"
    train(tiny_data, output, tiny_teacher, tiny_config)
    assert output.read_bytes() == tiny_model.read_bytes()
    after = torch.get_rng_state()
    assert draws == 1 + tiny_config.steps
    torch.set_rng_state(before)
    for _ in range(draws):
        torch.rand(7)
    assert torch.equal(torch.get_rng_state(), after)


def test_an_unfinished_run_is_not_overwritten(
    tmp_path: Path, tiny_data: Path, tiny_config: TrainingConfig, tiny_teacher: Teacher
):
    output = tmp_path / "model.safetensors"
    checkpoint_path(output).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="--resume"):
        train(tiny_data, output, tiny_teacher, tiny_config)
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        train(tiny_data, output, tiny_teacher, tiny_config, resume=True)
    assert checkpoint_path(output).read_bytes() == b"precious"


@pytest.fixture(scope="module")
def unfinished(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_data: Path,
    tiny_config: TrainingConfig,
    tiny_teacher: Teacher,
) -> Path:
    """The output path of a run that failed in its calibration, so that its checkpoint is left."""
    output = tmp_path_factory.mktemp("unfinished") / "model.safetensors"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("calibration fails")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "calibrate", fail)
        with pytest.raises(RuntimeError, match="calibration fails"):
            train(tiny_data, output, tiny_teacher, tiny_config)
    return output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5}, "steps is 4 there and 5 here"),
        ({"seed": 4}, "seed is 3 there and 4 here"),
        ({"input_size": (128, 136)}, "image size is 128x128 there and 128x136 here"),
        ({"precision": "bfloat16"}, "precision is float32 there and bfloat16 here"),
        ({"p_hard": 0.99}, "p_hard is 0.999 there and 0.99 here"),
    ],
)
def test_a_checkpoint_from_other_settings_is_refused_by_name(
    unfinished: Path,
    tiny_data: Path,
    tiny_config: TrainingConfig,
    tiny_teacher: Teacher,
    changes: dict[str, object],
    message: str,
):
    before = checkpoint_path(unfinished).read_bytes()
    with pytest.raises(ValueError, match=message):
        train(tiny_data, unfinished, tiny_teacher, replace(tiny_config, **changes), resume=True)
    assert checkpoint_path(unfinished).read_bytes() == before


def test_a_checkpoint_from_another_teacher_is_refused(
    unfinished: Path, tiny_data: Path, tiny_config: TrainingConfig, tiny_teacher: Teacher
):
    other = replace(tiny_teacher, fingerprint="0123456789abcdef")
    message = r"teacher's fingerprint is \w+ there and 0123456789abcdef"
    with pytest.raises(ValueError, match=message):
        train(tiny_data, unfinished, other, tiny_config, resume=True)


def test_nothing_is_pickled_in_a_checkpoint(unfinished: Path):
    with safe_open(checkpoint_path(unfinished), framework="pt") as file:
        names = set(file.keys())
        assert file.metadata()["format"] == "efficientad-checkpoint"
        assert int(file.get_tensor("adam.step.student.0.weight")) == 4
        assert file.get_tensor("adam.exp_avg_sq.student.8.weight").abs().max() > 0
    assert {"student.0.weight", "autoencoder.38.bias", "teacher_mean"} <= names


def test_the_model_says_how_it_was_made(tiny_model: Path, tiny_teacher: Teacher):
    model = load_model(tiny_model)
    record = model.training
    assert record["seed"] == 3
    assert record["steps"] == 4
    assert record["p_hard"] == 0.999
    assert record["teacher"] == "random stand-in"
    assert record["teacher's fingerprint"] == tiny_teacher.fingerprint
    assert record["training images"] == 6
    assert record["validation images"] == 3
    assert record["penalty images"] == "procedural"
    assert not checkpoint_path(tiny_model).exists()


def test_training_learns(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    """The hardest features become easier; thirty steps are too few for much more."""
    losses_of_step = training.training_losses
    hard = []

    def recorded(*arguments):
        losses = losses_of_step(*arguments)
        hard.append(float(losses.hard.detach()))
        return losses

    monkeypatch.setattr(training, "training_losses", recorded)
    config = TrainingConfig("small", (128, 128), steps=30, seed=0, precision="float32")
    train(tiny_data, tmp_path / "model.safetensors", tiny_teacher, config)
    # Six images: the first and the last round over all of them.
    assert sum(hard[-6:]) < 0.9 * sum(hard[:6])


def test_training_works_at_sizes_that_are_not_square_and_in_the_processors_precision(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher
):
    config = TrainingConfig("small", (136, 161), steps=2)
    model = train(tiny_data, tmp_path / "model.safetensors", tiny_teacher, config)
    assert model.input_size == (136, 161)
    assert all(tensor.dtype == torch.float32 for tensor in model.student.values())


def test_real_mono_images_of_many_sizes(tmp_path: Path, shared_data: Path, tiny_teacher: Teacher):
    tiles = shared_data / "magnetic_tile"
    data = tmp_path / "tiles"
    for source, count in {"train/good": 12, "test/good": 3, "test/crack": 3}.items():
        (data / source).mkdir(parents=True)
        for image in sorted((tiles / source).iterdir())[:count]:
            (data / source / image.name).symlink_to(image)
    output = tmp_path / "model.safetensors"
    train(data, output, tiny_teacher, TrainingConfig("small", (128, 192), steps=2))
    evaluation = evaluate(Detector.load(output), data)
    assert len(evaluation.scored) == 6
    assert evaluation.skipped == ()
    assert 0 <= evaluation.figures.values["image_auroc"] <= 1


def test_p_hard_reaches_the_loss_and_the_calibration_its_model(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    losses_of_step = training.training_losses
    given = []

    def recorded(*arguments):
        given.append(arguments[-1])
        return losses_of_step(*arguments)

    monkeypatch.setattr(training, "training_losses", recorded)
    config = TrainingConfig("small", (128, 128), steps=1, p_hard=0.5)
    calibration = CalibrationConfig((0.8, 0.99), "teacher")
    model = train(tiny_data, tmp_path / "model", tiny_teacher, config, calibration)
    assert given == [0.5]
    assert model.training["p_hard"] == 0.5
    assert model.quantile_levels == (0.8, 0.99)
    assert model.feature_source == "teacher"


def test_medium_trains_too(tmp_path: Path, tiny_data: Path):
    config = TrainingConfig("medium", (128, 128), steps=1)
    model = train(tiny_data, tmp_path / "model.safetensors", random_teacher("medium"), config)
    assert load_model(tmp_path / "model.safetensors").threshold == model.threshold


def test_without_the_penalty_the_run_says_so(
    tmp_path: Path,
    tiny_data: Path,
    tiny_teacher: Teacher,
    warnings_logged: pytest.LogCaptureFixture,
):
    config = TrainingConfig("small", (128, 128), steps=1)
    model = train(
        tiny_data, tmp_path / "model.safetensors", tiny_teacher, config, penalty_images="none"
    )
    assert "without the pretraining penalty" in warnings_logged.text
    assert model.training["penalty images"] == "none"


def test_divergence_is_an_error_and_not_a_model(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    losses_of_step = training.training_losses

    def diverging(*arguments):
        losses = losses_of_step(*arguments)
        return replace(losses, hard=losses.hard * float("nan"))

    monkeypatch.setattr(training, "training_losses", diverging)
    output = tmp_path / "model.safetensors"
    config = TrainingConfig("small", (128, 128), steps=2)
    with pytest.raises(RuntimeError, match="diverged: at step 2"):
        train(tiny_data, output, tiny_teacher, config)
    assert list(tmp_path.iterdir()) == []


def test_every_step_in_bfloat16_is_of_the_weights_that_the_one_before_left(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    losses_of_step = training.training_losses
    steps = 0

    def compared(networks, image, *others):
        nonlocal steps
        steps += 1
        losses = losses_of_step(networks, image, *others)
        with torch.no_grad():
            features = networks.student(image)
            assert features.dtype == torch.bfloat16
            assert torch.equal(features, deepcopy(networks.student)(image))
        return losses

    monkeypatch.setattr(training, "training_losses", compared)
    config = TrainingConfig("small", (128, 128), steps=2, precision="bfloat16")
    train(tiny_data, tmp_path / "model.safetensors", tiny_teacher, config)
    assert steps == 2


def test_the_rate_drops_after_95_percent_of_the_steps():
    rates = [learning_rate(step, 70_000) for step in (0, 66_499, 66_500, 69_999)]
    assert rates == [1e-4, 1e-4, 1e-5, 1e-5]
    assert [learning_rate(step, 20) for step in (18, 19)] == [1e-4, 1e-5]


def test_the_optimizer_gets_the_dropped_rate_within_a_run(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
):
    rates = []
    step = torch.optim.Adam.step

    def recorded(self, *arguments, **keywords):
        rates.extend(group["lr"] for group in self.param_groups)
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    config = TrainingConfig("small", (128, 128), steps=3)
    train(tiny_data, tmp_path / "model.safetensors", tiny_teacher, config)
    assert rates == [1e-4, 1e-4, 1e-5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "large"}, "size is 'large'"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"p_hard": 1.0}, "p_hard is 1.0; expected at least 0 and less than 1"),
        ({"p_hard": float("nan")}, "p_hard is nan"),
        ({"input_size": (100, 256)}, "128"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**changes)


def test_the_output_folder_must_exist(
    tmp_path: Path, tiny_data: Path, tiny_config: TrainingConfig, tiny_teacher: Teacher
):
    with pytest.raises(FileNotFoundError, match="create it first"):
        train(tiny_data, tmp_path / "none" / "model.safetensors", tiny_teacher, tiny_config)


def test_a_teacher_of_the_other_size_is_refused(
    tmp_path: Path, tiny_data: Path, tiny_config: TrainingConfig, tiny_teacher: Teacher
):
    config = replace(tiny_config, size="medium")
    with pytest.raises(ValueError, match="the teacher is small, but the run is medium"):
        train(tiny_data, tmp_path / "model.safetensors", tiny_teacher, config)


def test_statistics_are_exact_far_from_zero():
    """Mean 3 and deviation 1e-4: the difference of mean square and squared mean would be 0."""
    random = np.random.default_rng(0)
    maps = [3 + 1e-4 * random.normal(size=(1, 5, 9, 7)) for _ in range(4)]
    features = [torch.from_numpy(one).float() for one in maps]
    mean, deviation = channel_statistics(features)
    values = torch.cat(features).double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(mean, values.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(deviation, values.std(1, correction=0), rtol=1e-9, atol=0)
    assert (deviation > 5e-5).all()


def test_statistics_join_batches_of_different_sizes():
    features = [torch.randn(count, 3, 4, 5) + count for count in (1, 3, 2)]
    mean, deviation = channel_statistics(features)
    values = torch.cat(features).double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(mean, values.mean(1))
    torch.testing.assert_close(deviation, values.std(1, correction=0))


def test_a_dead_channel_gets_the_deviation_of_the_others():
    features = torch.randn(4, 5, 6, 6)
    features[:, 2] = 0.37
    mean, deviation = channel_statistics(features.split(1))
    assert deviation[2] == deviation[[0, 1, 3, 4]].median()
    assert mean[2] == pytest.approx(0.37)


def test_statistics_without_meaning_are_errors():
    with pytest.raises(ValueError, match="same features"):
        channel_statistics([torch.ones(1, 3, 4, 4)])
    with pytest.raises(ValueError, match="NaN"):
        channel_statistics([torch.randn(1, 3, 4, 4) / 0])
