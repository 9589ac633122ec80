"""The loop of a distillation, alone or shared by several workers."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientad.arguments import check_choice, set_whole_numbers
from efficientad.backbones import Backbone
from efficientad.checkpoint import Progress, Settings, restore_checkpoint, save_checkpoint
from efficientad.crops import BACKBONE_SIDE, TEACHER_SIDE, Crop, batch, central_crop, random_crop
from efficientad.distillation_images import DistillationImages
from efficientad.initial_teacher import InitialTeacher
from efficientad.loader import SampleLoader
from efficientad.long_run import run_steps
from efficientad.networks import pdn
from efficientad.precision import Precision, check_precision, convolutions_in, precision_on
from efficientad.progress import progress_bar
from efficientad.randomness import Purpose, generator, shuffled_index, torch_seed
from efficientad.statistics import ChannelStatistics
from efficientad.targets import Descriptors
from efficientad.teacher_optimizer import LEARNING_RATES, OptimizerName, TeacherOptimizer
from efficientad.weight_files import fingerprint
from efficientad.workers import Workers
from efficientad_ext.architecture import FEATURE_CHANNELS, SIZES, Size

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 100
FULL_RATE_STEPS = 500
# A run that starts from a teacher, which the full rate would shake, begins with half of it or less.
LEAST_STEPS_BEFORE = 4 * FULL_RATE_STEPS
FALLING_PERCENT = 30
STATISTICS_IMAGES = 10_000
HELD_OUT_EVERY = 500
# Threads that read photos ahead of the device; more than this keep any device busy.
_LOADER_THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class DistillationConfig:
    """What a distillation is to do; steps and batch size are the paper's by default.

    Attributes:
        size: "small" or "medium".
        steps: of the optimizer.
        batch_size: crops in a step, over all workers.
        seed: of every random draw, ≥ 0.
        precision: of the convolutions, see ``precision_on``; weights, targets' statistics and the
            loss are float32.
        half: store the teacher as float16.
        optimizer: "muon", or "adam", which is the paper's, see ``TeacherOptimizer``.

    Raises:
        TypeError: for a value of another type.
        ValueError: for a value out of range.
    """

    size: Size = "small"
    steps: int = 60_000
    batch_size: int = 16
    seed: int = 0
    precision: Precision = "auto"
    half: bool = False
    optimizer: OptimizerName = "muon"

    def __post_init__(self) -> None:
        check_choice("size", self.size, SIZES)
        check_choice("optimizer", self.optimizer, tuple(LEARNING_RATES))
        set_whole_numbers(self, steps=1, batch_size=1, seed=0)
        check_precision(self.precision)

    def on(self, device: torch.device) -> DistillationConfig:
        """The same with the precision that it has on a device."""
        return replace(self, precision=precision_on(device, self.precision))


def rate_share(step: int, steps: int, steps_before: int = 0) -> float:
    """The share of the highest rate in a step, counted from 0.

    It rises to 1 over 100 steps, stays until step 500, and declines with the root of the steps from
    there on, to which those count that the initial teacher had before. Over the last 30 % of all
    steps it falls to zero as half a cosine besides. Until then it does not depend on the number of
    steps, so that a run can still be made longer or shorter.
    """
    rising = min(1.0, (step + 1) / WARM_UP_STEPS)
    declining = math.sqrt(FULL_RATE_STEPS / max(FULL_RATE_STEPS, steps_before + step + 1))
    falling = max(0.0, (step - falls_from(steps)) / (steps - falls_from(steps)))
    return rising * declining * (1 + math.cos(math.pi * falling)) / 2


def falls_from(steps: int) -> int:
    """The step from which the rate falls to zero, of so many."""
    return steps * (100 - FALLING_PERCENT) // 100


def least_steps(step: int) -> int:
    """How many steps a run must have at the least whose fall does not begin before this step."""
    return -(-100 * step // (100 - FALLING_PERCENT))


class DistillationRun:
    """The state of a distillation and its loop."""

    def __init__(
        self,
        config: DistillationConfig,
        photos: DistillationImages,
        backbone: Backbone,
        workers: Workers,
        checkpoint: Path,
        initial: InitialTeacher | None = None,
    ) -> None:
        config = config.on(workers.device)
        self.config, self.photos, self.workers = config, photos, workers
        self.share = config.batch_size // workers.count
        self.checkpoint = checkpoint
        self.settings = _settings(config, photos, backbone, initial)
        self.crops_before = initial.crops if initial else 0
        self.steps_before = (
            max(LEAST_STEPS_BEFORE, initial.crops // config.batch_size) if initial else 0
        )
        on_device = {"device": workers.device, "memory_format": torch.channels_last}
        random = torch.Generator().manual_seed(torch_seed(config.seed, Purpose.TEACHER_WEIGHTS))
        network = pdn(config.size, FEATURE_CHANNELS, padded=True, random=random)
        if initial:
            initial.put_into(network, config.size)
        self.network: nn.Sequential = network.to(**on_device)  # type: ignore[call-overload]
        self.compute_type = getattr(torch, config.precision)
        self.descriptors = Descriptors(deepcopy(backbone)).to(self.compute_type).to(**on_device)  # type: ignore[call-overload]
        self.mean = torch.zeros(FEATURE_CHANNELS, device=workers.device)
        self.deviation = torch.ones(FEATURE_CHANNELS, device=workers.device)
        self.optimizer = TeacherOptimizer(self.network, config.optimizer)
        self.step = 0
        self.loss = torch.zeros(())
        self.curve: list[tuple[int, float]] = []

    def to_the_end(self) -> float:
        """Does the steps that are left, and returns the loss on the held-out photos."""
        if self.checkpoint.exists():
            self._restore()
        else:
            self._measure_targets()
            self._save()
        config, workers = self.config, self.workers
        replicated = workers.replicate(self.network)
        first, last = (
            self.crops_before + step * config.batch_size for step in (self.step, config.steps)
        )
        numbers = range(first + workers.rank, last, workers.count)
        with self._loader(numbers, self._training_crop) as crops:
            run_steps(
                "distillation",
                self.step,
                config.steps,
                _in_batches(crops, self.share),
                lambda crops: self._do_step(replicated, crops),
                self._describe,
                self._save,
                workers.any,
                shown=workers.leads,
            )
        return self.curve[-1][1]

    def _do_step(self, replicated: nn.Module, crops: list[Crop]) -> None:
        loss = self._squared_error(replicated, crops).mean()
        loss.backward()
        self.optimizer.step(rate_share(self.step, self.config.steps, self.steps_before))
        self.loss = loss.detach()
        self.step += 1
        if self.step % HELD_OUT_EVERY == 0 or self.step == self.config.steps:
            self._measure_held_out()

    def _squared_error(self, network: nn.Module, crops: list[Crop]) -> Tensor:
        """(teacher - target)² of each element, (N, 384, 64, 64) float32."""
        targets = self._descriptors_of(crops).float()
        targets = (targets - self.mean.view(1, -1, 1, 1)) / self.deviation.view(1, -1, 1, 1)
        images = batch(crops, TEACHER_SIDE, self.workers.device)
        with convolutions_in(self.config.precision, self.workers.device):
            features = network(images)
        return (features.float() - targets).square()

    @torch.no_grad()
    def _descriptors_of(self, crops: list[Crop]) -> Tensor:
        images = batch(crops, BACKBONE_SIDE, self.workers.device)
        return self.descriptors(images.to(self.compute_type))

    def _measure_targets(self) -> None:
        """Mean and deviation of the descriptors over one random crop of up to 10,000 photos."""
        statistics = ChannelStatistics("backbone")
        count = min(STATISTICS_IMAGES, len(self.photos.train))

        def make(number: int) -> Crop:
            random = generator(self.config.seed, Purpose.STATISTICS_CROP, number)
            return random_crop(self.photos.train[number], random)

        for crops in self._share("target statistics", count, make):
            statistics.add(self._descriptors_of(crops))
        total = ChannelStatistics("backbone")
        for part in self.workers.gather(statistics.packed()):
            total.join(part)
        mean, deviation = total.result()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    @torch.no_grad()
    def _measure_held_out(self) -> None:
        photos, sums = self.photos.held_out, torch.zeros(2, dtype=torch.float64)
        for crops in self._share(
            "held-out loss", len(photos), lambda number: central_crop(photos[number])
        ):
            errors = self._squared_error(self.network, crops)
            sums += torch.tensor([errors.double().sum(), errors.numel()])
        total, count = torch.stack(self.workers.gather(sums.to(self.workers.device))).sum(0)
        loss = float(total / count)
        self.curve.append((self.step, loss))
        if self.workers.leads:
            logger.info("step %d of %d: held-out loss %.5f", self.step, self.config.steps, loss)

    def _share(self, title: str, count: int, make: Callable[[int], Crop]) -> Iterator[list[Crop]]:
        """This worker's share of ``count`` crops, in batches."""
        workers = self.workers
        numbers = range(workers.rank, count, workers.count)
        bar = progress_bar(title, "image", len(numbers), shown=workers.leads)
        with self._loader(numbers, make) as crops, bar:
            for group in _in_batches(crops, self.share):
                yield group
                bar.update(len(group))

    def _loader(self, numbers: Iterable[int], make: Callable[[int], Crop]) -> SampleLoader[Crop]:
        ahead = max(2 * self.share, _LOADER_THREADS)
        return SampleLoader(numbers, make, _LOADER_THREADS, ahead)

    def _training_crop(self, number: int) -> Crop:
        seed, photos = self.config.seed, self.photos.train
        index = shuffled_index(seed, Purpose.DISTILLATION_ORDER, len(photos), number)
        return random_crop(photos[index], generator(seed, Purpose.DISTILLATION_CROP, number))

    def _describe(self) -> str:
        """The loss of the last step as text; raises RuntimeError if it is not finite."""
        loss = float(self.loss)
        if not math.isfinite(loss):
            raise RuntimeError(
                f"the distillation diverged: at step {self.step} the loss is {loss}; check the "
                "photos and the backbone"
            )
        held_out = f", held-out {self.curve[-1][1]:.4f}" if self.curve else ""
        return f"loss {loss:.4f}{held_out}"

    def _tensors(self) -> dict[str, Tensor]:
        statistics = {"target_mean": self.mean, "target_deviation": self.deviation}
        return {**statistics, **self.optimizer.state()}

    def _save(self) -> None:
        if self.workers.leads:
            progress = Progress(self.step, {"steps": self.config.steps, "curve": self.curve})
            save_checkpoint(self.checkpoint, self._tensors(), progress, self.settings)

    def _restore(self) -> None:
        progress = restore_checkpoint(self.checkpoint, self._tensors(), self.settings)
        before, now = int(progress.record["steps"]), self.config.steps
        if before != now and progress.step > falls_from(min(before, now)):
            other = (
                f"or {least_steps(progress.step)} or more"
                if progress.step <= falls_from(before)
                else "no other"
            )
            raise ValueError(
                f"{self.checkpoint} is at step {progress.step} of {before}, too late to make the "
                f"run one of {now} steps, whose rate would have fallen before or had fallen "
                f"already; give --steps {before}, {other}"
            )
        self.step = progress.step
        self.curve = [(step, loss) for step, loss in progress.record["curve"]]
        logger.info("resuming after step %d of %d", self.step, self.config.steps)


def _in_batches(crops: Iterator[Crop], size: int) -> Iterator[list[Crop]]:
    while group := list(islice(crops, size)):
        yield group


def _settings(
    config: DistillationConfig,
    photos: DistillationImages,
    backbone: Backbone,
    initial: InitialTeacher | None,
) -> Settings:
    return {
        "size": config.size,
        "batch size": config.batch_size,
        "seed": config.seed,
        "optimizer": config.optimizer,
        "precision": config.precision,
        **(initial.record if initial else {}),
        "backbone": type(backbone).__name__,
        "backbone's fingerprint": fingerprint(backbone.state_dict()),
        **photos.record,
    }
