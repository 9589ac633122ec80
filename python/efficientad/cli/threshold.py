"""``threshold``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from efficientad.cli.options import (
    FOLDER,
    PATH,
    device_named,
    device_option,
    format_option,
    replaced_output_option,
)


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=FOLDER)
@replaced_output_option
@format_option
@device_option
def threshold(
    model: Path, data: Path, output: Path | None, layout: Any, device: str | None
) -> None:
    """Set MODEL's threshold to the one with the best F1 on the labelled images in DATA.

    DATA is laid out like that of evaluate, with good images and anomalous ones. Nothing but the
    threshold for scores changes. It promises no false-reject rate, as that of calibrate does, and
    what is measured with it on the same images flatters: keep others for evaluate, which warns if
    it is given the very same ones.
    """
    from efficientad.labelled_threshold import COUNT, calibrate_threshold
    from efficientad.output import require_file_place
    from efficientad_ext.model_file import load_model, save_model

    output = output or model
    require_file_place(output)
    calibrated, f1 = calibrate_threshold(
        load_model(model), data, device_named(device), layout=layout
    )
    save_model(calibrated, output)
    click.echo(
        f"{output}: threshold {calibrated.threshold:.4f}, F1 {f1:.4f} on the "
        f"{calibrated.training[COUNT]} images that it was chosen on"
    )
