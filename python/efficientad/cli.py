"""The command line: ``efficientad train``, ``predict``, ``evaluate``, ``info`` and ``demo``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from efficientad.teacher import Teacher
    from efficientad_ext.architecture import Size

# The commands import what they need, so that --help does not wait for torch.

_FOLDER = click.Path(path_type=Path, file_okay=False)
_PATH = click.Path(path_type=Path)


def _parse_image_size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    height, separator, width = value.lower().partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise click.BadParameter(f"{value!r} is not of the form HEIGHTxWIDTH, such as 256x256")
    return int(height), int(width)


class _LogHandler(logging.Handler):
    """Writes log records as lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        with tqdm.external_write_mode():
            click.echo(f"{prefix}{record.getMessage()}", err=True)


class _Commands(click.Group):
    """Turns errors into one sentence on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        logger = logging.getLogger("efficientad")
        handler = _LogHandler()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            # click's own exceptions, which have exit codes of their own, are RuntimeErrors.
            if isinstance(error, click.exceptions.Exit | click.Abort):
                raise
            raise click.ClickException(str(error) or type(error).__name__) from error
        finally:
            logger.removeHandler(handler)
            logger.propagate = True


@click.group(cls=_Commands)
@click.version_option(package_name="efficientad-ext")
def main() -> None:
    """Visual anomaly detection with EfficientAD: learn from good images, find what is different."""


_device_option = click.option(
    "--device", help="Where to compute, such as cpu or cuda:0.  [default: a GPU if there is one]"
)


@main.command()
@click.argument("data", type=_FOLDER)
@click.option(
    "--output", "-o", type=_PATH, required=True, help="Model file to write, .safetensors."
)
@click.option(
    "--size", type=click.Choice(["small", "medium"]), default="small", show_default=True,
    help="EfficientAD-S or EfficientAD-M.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=70_000, show_default=True)
@click.option(
    "--image-size", metavar="HxW", callback=_parse_image_size, default="256x256",
    show_default=True,
    help="What images are resized to, at least 128x128.",
)  # fmt: skip
@click.option(
    "--teacher", metavar="FILE|random",
    help="Teacher weights, or 'random' for a stand-in with random weights.",
)  # fmt: skip
@click.option(
    "--penalty-images", type=_FOLDER, help="Folder of generic photos for the pretraining penalty."
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@_device_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16"]), default="float32",
    show_default=True, help="Of the convolutions in training.",
)  # fmt: skip
def train(
    data: Path,
    output: Path,
    size: Any,
    steps: int,
    image_size: tuple[int, int],
    teacher: str | None,
    penalty_images: Path | None,
    resume: bool,
    device: str | None,
    seed: int,
    precision: Any,
) -> None:
    """Train a model on the good images in DATA.

    DATA is a folder of good images, or one in the layout of MVTec AD: train/good, optionally
    validation/good. Without validation images, 10 % of the images are held out for calibration.
    """
    from efficientad.training import TrainingConfig
    from efficientad.training import train as run_training

    config = TrainingConfig(size, image_size, steps, seed, precision)
    model = run_training(
        data,
        output,
        _teacher(teacher, size),
        config,
        penalty_images=penalty_images,
        device=_device(device),
        resume=resume,
    )
    click.echo(f"{output}: threshold {model.threshold:.4f}")


@main.command()
@click.argument("model", type=_PATH)
@click.argument("paths", type=_PATH, nargs=-1, required=True)
@click.option("--maps", type=_FOLDER, help="Folder for anomaly maps, as 32-bit float TIFF.")
@click.option("--overlays", type=_FOLDER, help="Folder for images with their map over it, PNG.")
@click.option(
    "--json", "json_file", type=_PATH, help="File for one JSON line per image; - for stdout."
)
@_device_option
def predict(
    model: Path,
    paths: tuple[Path, ...],
    maps: Path | None,
    overlays: Path | None,
    json_file: Path | None,
    device: str | None,
) -> None:
    """Look for anomalies in images: PATHS are image files and folders of them.

    An image that cannot be read is reported and skipped; the exit status is then 1.
    """
    from efficientad.datasets import report_skipped
    from efficientad.prediction import find_sources, write_map, write_overlay
    from efficientad.prediction import predict as predict_file
    from efficientad_ext.detector import Detector
    from efficientad_ext.model_file import write_atomically

    sources = find_sources(paths)
    detector = Detector.load(model, _device(device))
    to_stdout = json_file == Path("-")
    lines: list[str] = []
    skipped = 0
    for source in sources:
        try:
            prediction = predict_file(detector, source.path)
        except (ValueError, OSError) as error:
            report_skipped(source.path, error)
            skipped += 1
            continue
        record = prediction.record()
        if maps is not None:
            record["map"] = str(maps / f"{source.name}.tiff")
            write_map(prediction, Path(record["map"]))
        if overlays is not None:
            record["overlay"] = str(overlays / f"{source.name}.png")
            write_overlay(prediction, detector.threshold, Path(record["overlay"]))
        lines.append(json.dumps(record))
        verdict = record["verdict"]
        click.echo(
            lines[-1] if to_stdout else f"{verdict:9}  {prediction.score:8.4f}  {source.path}"
        )
    if json_file is not None and not to_stdout:
        write_atomically(json_file, "".join(f"{line}\n" for line in lines).encode())
    if skipped:
        raise click.ClickException(f"{skipped} of {len(sources)} images could not be read")


@main.command()
@click.argument("model", type=_PATH)
@click.argument("data", type=_FOLDER)
@click.option("--json", "json_file", type=_PATH, help="File for the figures and all scores.")
@_device_option
def evaluate(model: Path, data: Path, json_file: Path | None, device: str | None) -> None:
    """Measure MODEL on the test images in DATA: test/good and test/<kind of defect>."""
    from efficientad.evaluation import evaluate as evaluate_model
    from efficientad_ext.detector import Detector
    from efficientad_ext.model_file import write_atomically

    detector = Detector.load(model, _device(device))
    result = evaluate_model(detector, data)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(result.summary(), indent=2) + "\n").encode())
    for label, auroc in result.auroc_by_defect.items():
        click.echo(f"{label}: image AU-ROC {auroc:.4f}")
    click.echo(f"all: image AU-ROC {result.auroc:.4f}")
    click.echo(
        f"at threshold {detector.threshold:.4f}: {result.detected:.1%} of the anomalous images "
        f"detected, {result.false_alarms:.1%} of the good ones reported"
    )
    if result.skipped:
        raise click.ClickException(f"{len(result.skipped)} images could not be read")


@main.command()
@click.argument("model", type=_PATH)
def info(model: Path) -> None:
    """Tell what MODEL is and how it was trained."""
    from efficientad_ext.model_file import load_model

    loaded = load_model(model)
    local_a, local_b, global_a, global_b = loaded.quantiles
    height, width = loaded.input_size
    click.echo(f"file: {model} ({model.stat().st_size / 1e6:.1f} MB)")
    click.echo(f"network: EfficientAD, {loaded.size}")
    click.echo(f"input size: {height}x{width}")
    click.echo(f"threshold: {loaded.threshold:.6g}")
    click.echo(f"quantiles of the local map: {local_a:.6g} (0.9), {local_b:.6g} (0.995)")
    click.echo(f"quantiles of the global map: {global_a:.6g} (0.9), {global_b:.6g} (0.995)")
    for name, value in loaded.training.items():
        click.echo(f"trained with {name}: {value}")


@main.command()
@click.option(
    "--output", "-o", type=_FOLDER, default="efficientad-demo", show_default=True,
    help="Folder for the images, the model and the results.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: 2 minutes']")
def demo(output: Path, steps: int | None) -> None:
    """Make images of cloth with planted defects, train on the good ones, and find the defects."""
    from efficientad.demo import STEPS, run_demo

    result = run_demo(output, STEPS if steps is None else steps)
    click.echo(f"image AU-ROC: {result.auroc:.4f}")
    click.echo(f"picture: {output / 'demo.png'}")


def _teacher(name: str | None, size: Size) -> Teacher:
    from efficientad.teacher import load_teacher, random_teacher

    if name is None:
        raise ValueError(
            "a teacher is needed: give a file of weights with --teacher FILE, or try things out "
            "with --teacher random"
        )
    return random_teacher(size) if name == "random" else load_teacher(name, size)


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is not a device; expected cpu, cuda or cuda:NUMBER") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name} here; use cpu")
    return name
