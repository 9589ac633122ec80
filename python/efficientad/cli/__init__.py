"""The command line: ``efficientad train``, ``predict``, ``evaluate`` and the others.

The commands import what they need when they run, so that --help does not wait for torch.
"""

from __future__ import annotations

import click

from efficientad.cli.description import demo, info
from efficientad.cli.detection import evaluate, predict
from efficientad.cli.distillation import distill
from efficientad.cli.group import Commands
from efficientad.cli.reproduction import ablate, reproduce
from efficientad.cli.threshold import threshold
from efficientad.cli.timing import time_model
from efficientad.cli.training import calibrate, train


@click.group(cls=Commands)
@click.version_option(package_name="efficientad-ext")
def main() -> None:
    """Visual anomaly detection with EfficientAD: learn from good images, find what is different."""


for command in (
    train,
    calibrate,
    threshold,
    predict,
    evaluate,
    info,
    time_model,
    reproduce,
    ablate,
    distill,
    demo,
):
    main.add_command(command)
