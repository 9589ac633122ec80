"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
PATH = click.Path(path_type=Path)

device_option = click.option(
    "--device", help="Where to compute, such as cpu or cuda:0.  [default: a GPU if there is one]"
)
format_option = click.option(
    "--format", "layout", type=click.Choice(["mvtec_ad", "mvtec_loco", "visa", "folder"]),
    help="Layout of DATA.  [default: told by what lies in it]",
)  # fmt: skip
replaced_output_option = click.option(
    "--output", "-o", type=PATH, help="Model file to write.  [default: MODEL, replaced at once]"
)
detector_precision_option = click.option(
    "--precision", type=click.Choice(["auto", "float32", "tf32", "float16", "bfloat16"]),
    default="auto", show_default=True, help="What the networks compute in.",
)  # fmt: skip
resume_option = click.option("--resume", is_flag=True, help="Continue an interrupted run.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
rate_option = click.option(
    "--false-reject-rate", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01,
    show_default=True,
    help="Share of normal images that the threshold may reject, kept with 95 % confidence.",
)  # fmt: skip


def parse_image_size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """A size such as 256x256 as (height, width); click's error for anything else."""
    height, separator, width = value.lower().partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise click.BadParameter(f"{value!r} is not of the form HEIGHTxWIDTH, such as 256x256")
    return int(height), int(width)


def device_named(name: str | None) -> str:
    """The device of that name if it is here; a GPU or else the CPU if none is named."""
    import torch

    from efficientad.arguments import check_device

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(check_device(name))
