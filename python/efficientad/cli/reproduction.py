"""``reproduce`` and ``ablate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from efficientad.cli.options import (
    FOLDER,
    device_named,
    device_option,
    parse_image_size,
)

if TYPE_CHECKING:
    from efficientad.reproduction import Report, RunConfig
    from efficientad.teacher import Teacher
    from efficientad_ext.architecture import Size

Command = TypeVar("Command", bound=Callable[..., None])

# The names of efficientad.reproduction.TABLES, which takes torch to import.
TABLE_NAMES = ("quantiles", "p-hard", "cumulative", "isolated", "puad")

_OPTIONS = (
    click.argument("roots", metavar="ROOT...", type=FOLDER, nargs=-1, required=True),
    click.option(
        "--output", "-o", type=FOLDER, default="efficientad-reproduction", show_default=True,
        help="Folder for models and results; what is finished there is not done again.",
    ),
    click.option(
        "--categories", metavar="NAME,NAME...", default="",
        help="Those that are wanted.  [default: all]",
    ),
    click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True),
    click.option("--steps", type=click.IntRange(min=1), default=70_000, show_default=True),
    click.option(
        "--image-size", metavar="HxW", callback=parse_image_size, default="256x256",
        show_default=True, help="What images are resized to, at least 128x128.",
    ),
    click.option(
        "--teacher", "teachers", metavar="FILE|default|random", multiple=True,
        default=("default",), show_default=True,
        help="Teacher weights, as for train. May be given once for each size.",
    ),
    click.option(
        "--penalty-images", metavar="DIR|procedural|none", default="procedural",
        show_default=True, help="Generic images for the pretraining penalty, as for train.",
    ),
    click.option(
        "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto",
        show_default=True, help="Of the convolutions in training.",
    ),
    click.option(
        "--jobs", type=click.IntRange(min=1),
        help="Trainings at once.  [default: 1 on a CPU, on a GPU by its free memory]",
    ),
    device_option,
)  # fmt: skip


def _with_options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.option(
    "--size", "sizes", type=click.Choice(["small", "medium"]), multiple=True, default=["small"],
    show_default=True, help="EfficientAD-S or EfficientAD-M. May be given twice.",
)  # fmt: skip
@_with_options
def reproduce(sizes: tuple[Any, ...], **options: Any) -> None:
    """Train and evaluate every category of the collections in ROOT..., for the papers' tables.

    A ROOT is a folder of categories in the layout of MVTec AD, MVTec LOCO or VisA, or such a
    category. Tables 1 and 2 of EfficientAD's paper and PUAD's results are printed beside the
    published figures. A category that fails does not stop the others; the exit status is then 1.
    """
    from efficientad.reproduction import reproduce as run

    teachers = _teachers(options["teachers"], sizes)
    _print(
        run(
            options["roots"],
            options["output"],
            teachers,
            _config(options),
            categories=_names(options["categories"]),
        )
    )


@click.command()
@click.option(
    "--table", "tables", type=click.Choice(TABLE_NAMES), multiple=True, required=True,
    help="Which table. May be given several times.",
)  # fmt: skip
@click.option(
    "--size", "sizes", type=click.Choice(["small", "medium"]), multiple=True,
    help="EfficientAD-S or EfficientAD-M.  [default: those of the paper's table]",
)  # fmt: skip
@_with_options
def ablate(tables: tuple[str, ...], sizes: tuple[Any, ...], **options: Any) -> None:
    """Train and evaluate what the papers' ablations need on the collections in ROOT...

    \b
    quantiles   a and b of the map normalisation
    p-hard      p_hard of the hard feature loss
    cumulative  map normalisation, hard feature loss and penalty, one after the other
    isolated    EfficientAD without one of them
    puad        PUAD's features from the student or the teacher

    Rows that differ in their calibration alone share a training.
    """  # noqa: D301 (click's mark, not an escape to keep)
    from efficientad.reproduction import TABLES
    from efficientad.reproduction import ablate as run

    chosen = sizes or tuple(dict.fromkeys(size for name in tables for size in TABLES[name].sizes))
    _print(
        run(
            options["roots"],
            options["output"],
            _teachers(options["teachers"], chosen),
            tables,
            _config(options),
            categories=_names(options["categories"]),
        )
    )


def _config(options: dict[str, Any]) -> RunConfig:
    from efficientad.reproduction import RunConfig

    return RunConfig(
        seeds=options["seeds"],
        steps=options["steps"],
        input_size=options["image_size"],
        precision=options["precision"],
        penalty_images=options["penalty_images"],
        device=device_named(options["device"]),
        jobs=options["jobs"],
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _teachers(names: Sequence[str], sizes: Sequence[Size]) -> dict[Size, Teacher]:
    """For each size the first of the named teachers that is of it."""
    from efficientad.teacher import named_teacher

    teachers = {}
    for size in sizes:
        for name in names:
            try:
                teachers[size] = named_teacher(name, size)
                break
            except ValueError:
                if name == names[-1]:
                    raise
    return teachers


def _print(report: Report) -> None:
    for lines in report.tables:
        click.echo("\n".join(lines) + "\n")
    if report.failures:
        for failure in report.failures:
            click.echo(f"{failure.experiment.title}: {failure.reason}", err=True)
        raise click.ClickException(f"{len(report.failures)} experiments failed; see above for why")
