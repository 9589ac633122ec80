"""Training, from a folder of normal images to a model file (appendix of the paper)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from efficientad.arguments import (
    check_choice,
    check_device,
    config_or_default,
    set_whole_numbers,
)
from efficientad.calibration import CalibrationConfig, calibrate
from efficientad.calibration_images import CONTENTS, contents_of
from efficientad.checkpoint import (
    Progress,
    Settings,
    adam_state,
    check_output,
    check_settings,
    checkpoint_path,
    restore_checkpoint,
    save_checkpoint,
)
from efficientad.loader import ImageStore, Sample, SampleLoader, make_sample, normalize
from efficientad.long_run import run_steps
from efficientad.losses import P_HARD, Losses, training_losses
from efficientad.networks import Networks, initial_networks
from efficientad.output import require_no_input, resolved
from efficientad.precision import Precision, check_precision, convolutions_in, precision_on
from efficientad.progress import with_progress
from efficientad.puad import check_count
from efficientad.randomness import Purpose, torch_seed
from efficientad.run_images import PROCEDURAL, RunImages, find_run_images
from efficientad.statistics import channel_statistics
from efficientad.teacher import Teacher, default_teacher, default_teacher_file
from efficientad.threshold import FALSE_REJECT_RATE, check_rate
from efficientad.torch_modes import default_modes
from efficientad_ext._checks import check_number, check_size, check_type
from efficientad_ext.architecture import SIZES, Size, check_input_size
from efficientad_ext.inference import exact_float32
from efficientad_ext.model_file import Model, load_model, save_model

logger = logging.getLogger(__name__)

LEARNING_RATE = 1e-4
REDUCED_LEARNING_RATE = 1e-5
REDUCED_AFTER = 0.95
WEIGHT_DECAY = 1e-5


@dataclass(frozen=True)
class TrainingConfig:
    """What a run is to do; the defaults are the paper's, but for the precision.

    Attributes:
        size: "small" or "medium".
        input_size: (height, width) of the network's input, each ≥ 128.
        steps: training steps, each of one image.
        seed: of every random draw, ≥ 0.
        precision: of the convolutions in training, see ``precision_on``. Weights and losses stay
            float32. Calibration computes as a detector does, see ``Detector``.
        p_hard: of the hard feature loss, in [0, 1); 0 switches it off, as in the paper's ablation:
            the loss is then the mean over all features.

    Raises:
        TypeError: for a value of another type.
        ValueError: for a value out of range.
    """

    size: Size = "small"
    input_size: tuple[int, int] = (256, 256)
    steps: int = 70_000
    seed: int = 0
    precision: Precision = "auto"
    p_hard: float = P_HARD

    def __post_init__(self) -> None:
        check_choice("size", self.size, SIZES)
        set_whole_numbers(self, steps=1, seed=0)
        object.__setattr__(self, "p_hard", check_number("p_hard", self.p_hard))
        if not 0 <= self.p_hard < 1:
            raise ValueError(f"p_hard is {self.p_hard}; expected at least 0 and less than 1")
        check_precision(self.precision)
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        check_input_size(*self.input_size)

    def on(self, device: torch.device) -> TrainingConfig:
        """The same with the precision that it has on a device."""
        return replace(self, precision=precision_on(device, self.precision))


@default_modes()
def train(
    data: Path | str,
    output: Path | str,
    teacher: Teacher | None = None,
    config: TrainingConfig | None = None,
    calibration: CalibrationConfig | None = None,
    *,
    penalty_images: Path | str = PROCEDURAL,
    device: str | torch.device = "cpu",
    resume: bool = False,
    puad: bool = True,
    false_reject_rate: float = FALSE_REJECT_RATE,
) -> Model:
    """Trains a student and an autoencoder, calibrates them, and saves and returns the model.

    The state of the run is written about once a minute, and when a signal asks it to stop (SIGINT,
    SIGTERM, SIGHUP), to ``<output>.checkpoint``, which is removed in the end. A run that was
    stopped or killed and resumed gives the same file, byte for byte, as an unbroken one with as
    many threads on the same machine. If a run is finished already, resuming it changes nothing.

    Args:
        data: a folder of normal images, or one in the layout of MVTec AD (see ``find_dataset``).
            Unreadable images are reported in the log and left out.
        output: the model file to write.
        teacher: of the size in ``config``; by default the one that comes with the package, see
            ``default_teacher``, ``load_teacher`` and ``random_teacher``.
        config: see ``TrainingConfig``.
        calibration: see ``CalibrationConfig``.
        penalty_images: what the pretraining penalty is taken on: a folder of generic photos;
            "procedural" for images made on the way (see ``procedural_image``); "none" for a run
            without the penalty.
        device: where to train.
        resume: continue from the checkpoint, if there is one.
        puad: whether the model gets PUAD's second score, from the training images' features.
        false_reject_rate: see ``threshold.choose_threshold``.

    Raises:
        FileNotFoundError: if a folder does not exist.
        FileExistsError: if there is a checkpoint, but ``resume`` is not asked for.
        TypeError: for an argument of another type.
        ValueError: for unusable data, an output that is one of the images, a device that is not
            here, or a checkpoint from other settings.
        RuntimeError: if the training diverges.
    """
    output, device = Path(output), check_device(device)
    config = config_or_default("config", config, TrainingConfig).on(device)
    calibration = config_or_default("calibration", calibration, CalibrationConfig)
    false_reject_rate = check_rate(false_reject_rate)
    checkpoint = checkpoint_path(output)
    check_output(output, resume)
    teacher = default_teacher(config.size) if teacher is None else teacher
    check_type("teacher", teacher, Teacher, "a Teacher, which load_teacher reads from a file")
    if teacher.size != config.size:
        raise ValueError(f"the teacher is {teacher.size}, but the run is {config.size}")
    images = find_run_images(Path(data), penalty_images, config.input_size, config.seed)
    read = (default_teacher_file(config.size), *images.train.paths, *images.validation)
    require_no_input(output, resolved(read))
    if puad:
        check_count(len(images.train))
    settings = {**run_settings(config, teacher), **images.record}
    if resume and output.exists() and not checkpoint.exists():
        done = load_model(output)
        of_training = {name: one for name, one in settings.items() if "validation" not in name}
        check_settings(output, {name: done.training.get(name) for name in of_training}, of_training)
        logger.info("%s is finished: there is nothing to resume", output)
        return done
    networks = initial_networks(
        config.size, config.input_size, teacher.weights, config.seed, device
    )
    optimizer = _make_optimizer(networks)
    step = 0
    with exact_float32(device):
        if checkpoint.exists():
            step = restore_checkpoint(checkpoint, _state(networks, optimizer), settings).step
            logger.info("resuming after step %d of %d", step, config.steps)
        else:
            _measure_teacher(networks, images.train, device)
        run = _Run(config, networks, optimizer, images, device, checkpoint, settings, step)
        run.to_the_end()
    record = {**settings, CONTENTS: contents_of(images.train.paths)}
    model = calibrate(
        networks.as_model(config.size, config.input_size, record),
        images.validation,
        device,
        calibration,
        puad_images=images.train.paths if puad else None,
        false_reject_rate=false_reject_rate,
    )
    save_model(model, output)
    checkpoint.unlink(missing_ok=True)
    return model


def learning_rate(step: int, steps: int) -> float:
    """1e-4, and a tenth of it after 95 % of the steps; ``step`` counts from 0."""
    return LEARNING_RATE if step < int(REDUCED_AFTER * steps) else REDUCED_LEARNING_RATE


@dataclass
class _Run:
    """The loop over the training steps."""

    config: TrainingConfig
    networks: Networks
    optimizer: torch.optim.Adam
    images: RunImages
    device: torch.device
    checkpoint: Path
    settings: Settings
    step: int
    losses: Losses | None = None

    def to_the_end(self) -> None:
        """Does the steps that are left; the last state is in the checkpoint afterwards."""
        config, images = self.config, self.images

        def make(step: int) -> Sample:
            return make_sample(step, config.seed, images.train, images.penalty)

        with SampleLoader(range(self.step, config.steps), make) as samples:
            run_steps(
                "training",
                self.step,
                config.steps,
                samples,
                self._train_step,
                self._describe,
                self._save,
            )

    def _train_step(self, sample: Sample) -> None:
        config = self.config
        image, augmented = self._batch(sample.image), self._batch(sample.augmented)
        penalty = None if sample.penalty is None else self._batch(sample.penalty)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, config.steps)
        self.networks.dropout.manual_seed(torch_seed(config.seed, Purpose.DROPOUT, self.step))
        with convolutions_in(config.precision, self.device):
            self.losses = training_losses(self.networks, image, augmented, penalty, config.p_hard)
        self.optimizer.zero_grad()
        self.losses.total.backward()
        self.optimizer.step()
        self.step += 1

    def _batch(self, image: torch.Tensor) -> torch.Tensor:
        return image[None].to(self.device, memory_format=torch.channels_last)

    def _describe(self) -> str:
        """The losses and the rate as text; raises RuntimeError for a loss that is not finite."""
        losses = self.losses
        assert losses is not None
        named = {
            "hard": losses.hard,
            "penalty": losses.penalty,
            "AE": losses.autoencoder,
            "STAE": losses.student_autoencoder,
        }
        values = {name: float(loss.detach()) for name, loss in named.items() if loss is not None}
        if not all(map(math.isfinite, values.values())):
            raise RuntimeError(
                f"the training diverged: at step {self.step} a loss is NaN or infinite ({values}); "
                "check the training images and the teacher"
            )
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        return f"{text}, rate {learning_rate(self.step - 1, self.config.steps):g}"

    def _save(self) -> None:
        state = _state(self.networks, self.optimizer)
        save_checkpoint(self.checkpoint, state, Progress(self.step), self.settings)


def _state(networks: Networks, optimizer: torch.optim.Adam) -> dict[str, torch.Tensor]:
    """What a checkpoint holds; the teacher itself is named by its fingerprint in the settings."""
    parameters: dict[str, torch.Tensor] = {
        f"{network}.{name}": parameter
        for network in ("student", "autoencoder")
        for name, parameter in getattr(networks, network).named_parameters()
    }
    return {
        "teacher_mean": networks.teacher_mean,
        "teacher_deviation": networks.teacher_deviation,
        **adam_state(parameters, optimizer),
    }


def run_settings(config: TrainingConfig, teacher: Teacher) -> Settings:
    """What a run is to do, for its checkpoint and for the model's record."""
    height, width = config.input_size
    return {
        "size": config.size,
        "image size": f"{height}x{width}",
        "steps": config.steps,
        "seed": config.seed,
        "precision": config.precision,
        "p_hard": config.p_hard,
        "teacher": teacher.source,
        "teacher's fingerprint": teacher.fingerprint,
    }


def _make_optimizer(networks: Networks) -> torch.optim.Adam:
    parameters = [*networks.student.parameters(), *networks.autoencoder.parameters()]
    return torch.optim.Adam(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)


def _measure_teacher(networks: Networks, images: ImageStore, device: torch.device) -> None:
    def feature_maps() -> Iterator[torch.Tensor]:
        for index in with_progress("teacher statistics", "image", range(len(images))):
            batch = normalize(images[index])[None]
            yield networks.teacher(batch.to(device, memory_format=torch.channels_last))

    with torch.no_grad():
        mean, deviation = channel_statistics(feature_maps())
    networks.teacher_mean.copy_(mean)
    networks.teacher_deviation.copy_(deviation)
