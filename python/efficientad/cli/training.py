"""``train`` and ``calibrate``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from efficientad.cli.options import (
    FOLDER,
    PATH,
    device_named,
    device_option,
    parse_image_size,
    rate_option,
    replaced_output_option,
    resume_option,
    seed_option,
)


@click.command()
@click.argument("data", type=FOLDER)
@click.option("--output", "-o", type=PATH, required=True, help="Model file to write, .safetensors.")
@click.option(
    "--size", type=click.Choice(["small", "medium"]), default="small", show_default=True,
    help="EfficientAD-S or EfficientAD-M.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=70_000, show_default=True)
@click.option(
    "--p-hard", type=click.FloatRange(0, 1, max_open=True), default=0.999, show_default=True,
    help="Of the squared differences between teacher and student, those above this quantile make "
    "the hard feature loss. Short trainings may need a lower one, such as 0.9, for plain areas.",
)  # fmt: skip
@click.option(
    "--image-size", metavar="HxW", callback=parse_image_size, default="256x256",
    show_default=True,
    help="What images are resized to, at least 128x128.",
)  # fmt: skip
@click.option(
    "--teacher", metavar="FILE|default|random", default="default", show_default=True,
    help="Teacher weights, the teacher that comes with the package, or a stand-in with random "
    "weights.",
)  # fmt: skip
@click.option(
    "--penalty-images", metavar="DIR|procedural|none", default="procedural", show_default=True,
    help="Generic images for the pretraining penalty: a folder of photos, images made on the way, "
    "or no penalty.",
)  # fmt: skip
@resume_option
@device_option
@seed_option
@click.option(
    "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto",
    show_default=True, help="Of the convolutions in training.",
)  # fmt: skip
@click.option(
    "--puad/--no-puad", default=True, show_default=True,
    help="PUAD's second score, for anomalies that have no place in the picture.",
)  # fmt: skip
@click.option(
    "--puad-features", type=click.Choice(["student", "teacher"]), default="student",
    show_default=True, help="Whose pooled features PUAD's second score is of.",
)  # fmt: skip
@rate_option
def train(
    data: Path,
    output: Path,
    size: Any,
    steps: int,
    p_hard: float,
    image_size: tuple[int, int],
    teacher: str,
    penalty_images: str,
    resume: bool,
    device: str | None,
    seed: int,
    precision: Any,
    puad: bool,
    puad_features: Any,
    false_reject_rate: float,
) -> None:
    """Train a model on the good images in DATA.

    DATA is a folder of good images, or one in the layout of MVTec AD (train/good, optionally
    validation/good), MVTec LOCO or VisA, or with a list images.csv. Without validation images, 10 %
    of the images are held out for calibration.
    """
    from efficientad.calibration import CalibrationConfig
    from efficientad.output import require_no_input, resolved
    from efficientad.teacher import named_teacher
    from efficientad.training import TrainingConfig
    from efficientad.training import train as run_training

    require_no_input(output, resolved([Path(teacher)]))
    config = TrainingConfig(size, image_size, steps, seed, precision, p_hard)
    model = run_training(
        data,
        output,
        named_teacher(teacher, size),
        config,
        CalibrationConfig(puad_features=puad_features),
        penalty_images=penalty_images,
        device=device_named(device),
        resume=resume,
        puad=puad,
        false_reject_rate=false_reject_rate,
    )
    click.echo(f"{output}: threshold {model.threshold:.4f}")


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=FOLDER)
@replaced_output_option
@click.option("--puad/--no-puad", default=None, help="PUAD's second score.  [default: as in MODEL]")
@click.option(
    "--puad-features", type=click.Choice(["student", "teacher"]),
    help="Whose pooled features PUAD's second score is of.  [default: as in MODEL]",
)  # fmt: skip
@rate_option
@device_option
@click.option(
    "--seed", type=click.IntRange(min=0), help="Of what is held out.  [default: as in MODEL]"
)
def calibrate(
    model: Path,
    data: Path,
    output: Path | None,
    puad: bool | None,
    puad_features: Any,
    false_reject_rate: float,
    device: str | None,
    seed: int | None,
) -> None:
    """Calibrate MODEL anew on the normal images in DATA, without training.

    Quantiles and threshold come from the validation images of DATA, PUAD's statistics from its
    training images. Without validation images, those that MODEL was trained on give PUAD's
    statistics if they are most of DATA, and the others calibrate; otherwise 10 % of the images are
    held out to calibrate with, or, without PUAD, all are. Images that MODEL was trained on never
    calibrate, and test images are never looked at.
    """
    from efficientad.calibration import CalibrationConfig
    from efficientad.calibration import calibrate as run_calibration
    from efficientad.calibration_images import find_calibration_images
    from efficientad.output import require_file_place
    from efficientad.run_images import record_of
    from efficientad_ext.model_file import load_model, save_model

    output = output or model
    require_file_place(output)
    loaded = load_model(model)
    puad_images, validation_images = find_calibration_images(
        loaded, data, seed, loaded.puad is not None if puad is None else puad
    )
    record = record_of("validation", validation_images, data)
    calibrated = run_calibration(
        replace(loaded, training={**loaded.training, **record}),
        validation_images,
        device_named(device),
        CalibrationConfig(loaded.quantile_levels, puad_features or loaded.feature_source),
        puad_images=puad_images,
        false_reject_rate=false_reject_rate,
    )
    save_model(calibrated, output)
    others = "" if puad_images is None else f", PUAD's statistics from {len(puad_images)}"
    click.echo(
        f"{output}: threshold {calibrated.threshold:.4f}, from {len(validation_images)} images"
        f"{others}"
    )
