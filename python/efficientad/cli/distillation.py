"""``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from efficientad.cli.options import (
    FOLDER,
    PATH,
    device_named,
    device_option,
    resume_option,
    seed_option,
)


@click.command()
@click.option(
    "--images", type=FOLDER, multiple=True, required=True,
    help="Folder of generic photos, thousands of them. May be given several times.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=PATH, required=True, help="Teacher file to write, .safetensors."
)
@click.option(
    "--backbone", type=click.Choice(["efficientnet_lite2", "wide_resnet101_2"]),
    default="efficientnet_lite2", show_default=True,
    help="Network pretrained on ImageNet to learn from.",
)  # fmt: skip
@click.option(
    "--backbone-weights", metavar="FILE", type=PATH,
    help="Its weights, with the keys of torchvision or efficientnet-lite-pytorch.  "
    "[default: those of the extra [distill], for efficientnet_lite2]",
)  # fmt: skip
@click.option(
    "--size", type=click.Choice(["small", "medium"]), default="small", show_default=True,
    help="A teacher for EfficientAD-S or EfficientAD-M.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=60_000, show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True,
    help="Crops in a step, over all processes of torchrun.",
)  # fmt: skip
@click.option("--half", is_flag=True, help="Store the weights as float16.")
@click.option(
    "--optimizer", type=click.Choice(["muon", "adam"]), default="muon", show_default=True,
    help="Muon learns more in as many steps; Adam is the paper's, at ten times its rate here.",
)  # fmt: skip
@click.option(
    "--initial-teacher", metavar="FILE", type=PATH,
    help="Teacher to start from, not random weights; a medium one may start from a small one.",
)  # fmt: skip
@resume_option
@device_option
@seed_option
@click.option(
    "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto",
    show_default=True, help="Of the convolutions.",
)  # fmt: skip
def distill(
    images: tuple[Path, ...],
    output: Path,
    backbone: Any,
    backbone_weights: Path | None,
    size: Any,
    steps: int,
    batch_size: int,
    half: bool,
    optimizer: Any,
    initial_teacher: Path | None,
    resume: bool,
    device: str | None,
    seed: int,
    precision: Any,
) -> None:
    """Distil a teacher for train from a network pretrained on ImageNet.

    Under torchrun, its processes share the work.
    """
    from efficientad.backbones import load_backbone
    from efficientad.distillation import DistillationConfig
    from efficientad.distillation import distill as run_distillation
    from efficientad.output import require_no_input, resolved

    require_no_input(output, resolved(filter(None, (initial_teacher, backbone_weights))))
    config = DistillationConfig(size, steps, batch_size, seed, precision, half, optimizer)
    loss = run_distillation(
        images,
        output,
        load_backbone(backbone, backbone_weights),
        config,
        initial_teacher=initial_teacher,
        device=device_named(device),
        resume=resume,
    )
    if loss is not None:
        click.echo(f"{output}: held-out loss {loss:.5f}")
