"""What the teacher and the pretraining penalty are worth on real data.

    python benchmarks/accuracy/teachers.py DATA... --photos DIR --results DIR
        [--steps N...] [--seeds N] [--p-hard P] [--compare TEACHER:PENALTY...]

Trains and evaluates EfficientAD-S for every combination of data set, number of steps, seed and
comparison, and writes the table of what is there so far, as Markdown. A comparison names a teacher
(random, default, or a file) and what the penalty is taken on (none, procedural, photos). Each run
leaves one JSON file in the results' folder and is not done again; an interrupted training
continues where it was. Nothing is chosen by the test images: every run is the command line's
``train`` and ``evaluate`` with its defaults but for the steps and p_hard.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from efficientad.evaluation import Evaluation, evaluate
from efficientad.losses import P_HARD
from efficientad.metrics import image_auroc
from efficientad.precision import precision_on
from efficientad.teacher import named_teacher
from efficientad.training import TrainingConfig, train

from efficientad_ext.detector import Detector
from efficientad_ext.model_file import write_atomically

COMPARISONS = ("random:procedural", "default:none", "default:procedural", "default:photos")
SCORES = ("score", "picturable_score", "unpicturable_score")


@dataclass(frozen=True)
class Run:
    """One training and its evaluation."""

    data: str
    teacher: str
    penalty: str
    steps: int
    precision: Literal["float32", "bfloat16"]
    seed: int
    p_hard: float = P_HARD

    @property
    def name(self) -> str:
        """Of the run's files."""
        hard = "" if self.p_hard == P_HARD else f"-p_hard-{self.p_hard:g}"
        teacher = Path(self.teacher).stem
        settings = f"{self.data}-{teacher}-{self.penalty}-{self.steps}{hard}"
        return f"{settings}-{self.precision}-{self.seed}"

    @property
    def row(self) -> tuple[str, str, str, int, float, str]:
        """What the runs have in common whose spread over seeds is looked at."""
        teacher = Path(self.teacher).stem
        return self.data, teacher, self.penalty, self.steps, self.p_hard, self.precision


def all_runs(arguments: argparse.Namespace) -> Iterator[tuple[Path, Run]]:
    """Every run with its data, all comparisons of one seed before the next seed."""
    precision = precision_on(torch.device(arguments.device), arguments.precision)
    p_hard = arguments.p_hard
    for seed in range(arguments.seeds):
        for steps in arguments.steps:
            for data in arguments.data:
                for comparison in arguments.compare:
                    teacher, _, penalty = comparison.rpartition(":")
                    yield data, Run(data.name, teacher, penalty, steps, precision, seed, p_hard)


def perform(run: Run, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    config = TrainingConfig(
        "small", steps=run.steps, seed=run.seed, precision=run.precision, p_hard=run.p_hard
    )
    model = arguments.results / f"{run.name}.safetensors"
    started = time.monotonic()
    train(
        data,
        model,
        named_teacher(run.teacher, "small"),
        config,
        penalty_images=arguments.photos if run.penalty == "photos" else run.penalty,
        device=arguments.device,
        resume=True,
    )
    finished = time.monotonic()
    evaluation = evaluate(Detector.load(model, arguments.device), data)
    return {
        **asdict(run),
        "teacher": Path(run.teacher).stem,
        "device": device_name(arguments.device),
        "training seconds": finished - started,
        "evaluation seconds": time.monotonic() - finished,
        "image_auroc": {name: auroc(evaluation, name) for name in SCORES},
        "figures": evaluation.figures.values,
    }


def auroc(evaluation: Evaluation, score: str) -> float:
    """The image AU-ROC of one of an image's three scores."""
    return image_auroc(
        [getattr(one, score) for one in evaluation.scored],
        [one.image.anomalous for one in evaluation.scored],
    )


def device_name(device: str) -> str:
    if device == "cpu":
        return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return torch.cuda.get_device_name(device)


def table(results: Iterable[dict[str, Any]]) -> str:
    """Mean and spread (lowest to highest) of the AU-ROC over the seeds, in percent."""
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        known = (field.name for field in fields(Run))
        run = Run(**{name: result[name] for name in known if name in result})
        rows.setdefault(run.row, []).append(result)
    lines = [
        "| data | teacher | penalty | steps | p_hard | precision | seeds | image AU-ROC | "
        "EfficientAD alone | PUAD's score alone | pixel AU-ROC |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, runs in sorted(rows.items()):
        figures = [spread([one["image_auroc"][name] for one in runs]) for name in SCORES]
        figures.append(spread([one["figures"]["pixel_auroc"] for one in runs]))
        lines.append(f"| {' | '.join(map(str, [*row, len(runs), *figures]))} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    lowest, highest = 100 * min(values), 100 * max(values)
    return f"{100 * statistics.fmean(values):.1f} ({lowest:.1f} to {highest:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders in the layout of MVTec AD")
    parser.add_argument("--photos", type=Path, help="folder for the comparisons with photos")
    parser.add_argument("--results", type=Path, required=True, help="folder, made if need be")
    parser.add_argument("--steps", type=int, nargs="+", default=[70_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--p-hard", type=float, default=P_HARD)
    parser.add_argument("--compare", nargs="+", default=COMPARISONS, metavar="TEACHER:PENALTY")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.photos is None and any(":photos" in one for one in arguments.compare):
        parser.error("a comparison with photos needs --photos DIR")
    arguments.results.mkdir(parents=True, exist_ok=True)
    for data, run in all_runs(arguments):
        file = arguments.results / f"{run.name}.json"
        if not file.exists():
            result = perform(run, data, arguments)
            write_atomically(file, (json.dumps(result, indent=2) + "\n").encode())
            file.with_suffix(".safetensors").unlink()
        print(file.name, json.loads(file.read_text())["image_auroc"], flush=True)
    print(table(json.loads(file.read_text()) for file in arguments.results.glob("*.json")))


if __name__ == "__main__":
    main()
