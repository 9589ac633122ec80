"""Whole collections: the papers' main tables, and those of their ablations."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from efficientad.arguments import set_whole_numbers
from efficientad.output import require_writable
from efficientad.precision import Precision
from efficientad.reproduction.ablations import (
    MEAN_OF_COLLECTIONS,
    TABLES,
    Row,
    Table,
    Training,
    puad_calibration,
)
from efficientad.reproduction.collection import Category, find_categories
from efficientad.reproduction.experiment import Calibration, Experiment
from efficientad.reproduction.processes import Failure, default_jobs, run_experiments
from efficientad.reproduction.results import Results
from efficientad.reproduction.tables import format_table, reproduction_tables
from efficientad.run_images import NO_PENALTY, PROCEDURAL
from efficientad.teacher import Teacher
from efficientad.timing import Timing, device_name, measure_times
from efficientad.training import TrainingConfig
from efficientad_ext.architecture import Size
from efficientad_ext.model_file import load_model, write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunConfig:
    """What all trainings have in common; the defaults are those of ``TrainingConfig``.

    Attributes:
        seeds: how many: 0, 1, …
        steps: see ``TrainingConfig``.
        input_size: see ``TrainingConfig``.
        precision: see ``TrainingConfig``.
        penalty_images: see ``train``.
        device: where to compute.
        jobs: how many trainings at once; None for as many as have room, see ``default_jobs``.

    Raises:
        TypeError: for a value of another type.
        ValueError: for a value out of range.
    """

    seeds: int = 1
    steps: int = 70_000
    input_size: tuple[int, int] = (256, 256)
    precision: Precision = "auto"
    penalty_images: str = PROCEDURAL
    device: str = "cpu"
    jobs: int | None = None

    def __post_init__(self) -> None:
        set_whole_numbers(self, seeds=1)
        if self.jobs is not None:
            set_whole_numbers(self, jobs=1)
        TrainingConfig("small", self.input_size, self.steps, precision=self.precision)

    def of_training(self, training: Training, seed: int) -> TrainingConfig:
        """What a single run is to do."""
        config = TrainingConfig(
            training.size, self.input_size, self.steps, seed, self.precision, training.p_hard
        )
        return config.on(torch.device(self.device))


@dataclass(frozen=True)
class Report:
    """The tables, each as its lines, and the experiments that came to no result."""

    tables: tuple[list[str], ...]
    failures: tuple[Failure, ...]


def reproduce(
    roots: Sequence[Path | str],
    output: Path | str,
    teachers: Mapping[Size, Teacher],
    config: RunConfig | None = None,
    *,
    categories: Sequence[str] = (),
) -> Report:
    """Trains and evaluates every category of the collections, for the papers' main tables.

    Each category and seed has a model, and a result as JSON, in
    ``<output>/<size>/<category>/seed-<seed>…``. What is finished is left alone, and what was
    interrupted is continued. No test image is looked at before a model is calibrated.

    Args:
        roots: folders of collections, or of single categories; see ``find_categories``.
        output: the folder for models and results; made if it is not there.
        teachers: for each size that is to be trained.
        config: see ``RunConfig``.
        categories: the names of those that are wanted; none for all.

    Raises:
        FileNotFoundError: if a folder does not exist.
        OSError: if results cannot be written.
        ValueError: if there is no category, or a result in the folder has other settings.
    """
    config, output = config or RunConfig(), Path(output)
    chosen = find_categories(roots, categories)
    rows = [(Training(size), puad_calibration()) for size in teachers]
    experiments = _experiments(chosen, rows, output, teachers, config)
    failures = _run(experiments, output, config)
    results = _gather(experiments)
    by_size = {training.size: results[training.name, one.name] for training, one in rows}
    timings = _timings(experiments, config.device)
    return Report(tuple(reproduction_tables(by_size, timings)), failures)


def ablate(
    roots: Sequence[Path | str],
    output: Path | str,
    teachers: Mapping[Size, Teacher],
    tables: Sequence[str],
    config: RunConfig | None = None,
    *,
    categories: Sequence[str] = (),
) -> Report:
    """Trains and evaluates what the rows of the ablations' tables need, and no more.

    Rows that differ in their calibration alone share a training, tables that have a row in common
    its result, and so does ``reproduce`` with the same settings and output.

    Args:
        roots: see ``reproduce``.
        output: see ``reproduce``.
        teachers: for each size that is to be trained.
        tables: names of ``TABLES``; each is made for all sizes.
        config: see ``RunConfig``.
        categories: see ``reproduce``.

    Raises:
        FileNotFoundError, OSError: see ``reproduce``.
        ValueError: if a table is unknown or needs penalty images; or see ``reproduce``.
    """
    config, output = config or RunConfig(), Path(output)
    if unknown := [name for name in tables if name not in TABLES]:
        raise ValueError(f"there is no table {unknown[0]!r}; there are {', '.join(TABLES)}")
    chosen = find_categories(roots, categories)
    rows_of = {
        name: [row for size in teachers for row in TABLES[name].rows(size)] for name in tables
    }
    rows = [row for rows in rows_of.values() for row in rows]
    if config.penalty_images == NO_PENALTY and not all(row.training.penalty for row in rows):
        raise ValueError(
            "the table has a row without the pretraining penalty, so that the others need penalty "
            "images; give a folder, or leave the choice to the default"
        )
    pairs = [(row.training, row.calibration) for row in rows]
    experiments = _experiments(chosen, pairs, output, teachers, config)
    failures = _run(experiments, output, config)
    results = _gather(experiments)
    texts = [_ablation(TABLES[name], rows_of[name], results) for name in tables]
    return Report(tuple(texts), failures)


def _experiments(
    categories: Sequence[Category],
    rows: Iterable[tuple[Training, Calibration]],
    output: Path,
    teachers: Mapping[Size, Teacher],
    config: RunConfig,
) -> list[Experiment]:
    """One for each training, category and seed; the first seed of everything comes first."""
    calibrations: dict[Training, dict[str, Calibration]] = {}
    for training, calibration in rows:
        calibrations.setdefault(training, {})[calibration.name] = calibration
    return [
        Experiment(
            category,
            training.name,
            config.of_training(training, seed),
            teachers[training.size],
            str(config.penalty_images) if training.penalty else NO_PENALTY,
            tuple(of_training.values()),
            output,
            config.device,
        )
        for seed in range(config.seeds)
        for training, of_training in calibrations.items()
        for category in categories
    ]


def _run(experiments: Sequence[Experiment], output: Path, config: RunConfig) -> tuple[Failure, ...]:
    require_writable(output)
    pending = [experiment for experiment in experiments if experiment.pending()]
    logger.info("%d of %d experiments are done", len(experiments) - len(pending), len(experiments))
    jobs = config.jobs
    if jobs is None:
        sizes = [experiment.config.size for experiment in pending]
        jobs = default_jobs(config.device, sizes, config.input_size) if sizes else 1
    return run_experiments(pending, min(jobs, len(pending)))


def _gather(experiments: Sequence[Experiment]) -> dict[tuple[str, str], Results]:
    """The results there are, by the names of their training and calibration."""
    gathered: dict[tuple[str, str], Results] = {}
    for experiment in experiments:
        for calibration in experiment.calibrations:
            results = gathered.setdefault((experiment.training, calibration.name), Results())
            if (result := experiment.result(calibration)) is not None:
                results.add(experiment.config.seed, result)
    return gathered


def _ablation(
    table: Table, rows: Sequence[Row], results: Mapping[tuple[str, str], Results]
) -> list[str]:
    found = [results[row.training.name, row.calibration.name] for row in rows]
    names = list(dict.fromkeys(name for one in found for name in one.collections))
    cells: list[list[object]] = []
    for row, one in zip(rows, found, strict=True):
        means: list[object] = [one.of_collection(table.figure, name) for name in names]
        cells.append([row.title, *means, one.overall(table.figure), row.published])
    of_mean = table.published_of == MEAN_OF_COLLECTIONS
    published = f"published, {'mean of 3' if of_mean else table.published_of}"
    return format_table(table.title, ["", *names, "mean", published], cells)


def _timings(experiments: Sequence[Experiment], device: str) -> dict[Size, Timing]:
    """Of one model of each size, unless they were taken before on the same device."""
    timings: dict[Size, Timing] = {}
    for experiment in experiments:
        size = experiment.config.size
        if size not in timings and experiment.model_file.exists():
            timings[size] = _timing(experiment, device)
    return timings


def _timing(experiment: Experiment, device: str) -> Timing:
    file = experiment.output / experiment.training / "timing.json"
    if file.is_file():
        try:
            known = Timing.from_record(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{file} is not a timing of this program; delete it") from error
        same_input = known.input_size == experiment.config.input_size
        if same_input and known.device == device_name(torch.device(device)):
            return known
    timing = measure_times(load_model(experiment.model_file), device, passes=_passes(device))
    write_atomically(file, (json.dumps(timing.record(), indent=2) + "\n").encode())
    return timing


def _passes(device: str) -> int | None:
    # For a figure beside the published one; ``efficientad time`` takes more.
    return None if torch.device(device).type == "cuda" else 3
