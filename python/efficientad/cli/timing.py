"""``time``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from efficientad.cli.options import PATH, detector_precision_option, device_named, device_option


@click.command("time")
@click.argument("model", type=PATH)
@detector_precision_option
@click.option(
    "--passes", type=click.IntRange(min=1),
    help="Passes to measure, after as many to warm up.  [default: 1000 on a GPU, 20 on a CPU]",
)  # fmt: skip
@click.option("--json", "json_file", type=PATH, help="File for the figures.")
@device_option
def time_model(
    model: Path, precision: Any, passes: int | None, json_file: Path | None, device: str | None
) -> None:
    """Measure how long MODEL takes for an image, and how many it handles in batches of 16.

    Passes to warm up come first. A pass begins with the images' bytes in the host's memory and ends
    with maps and scores there.
    """
    from efficientad.output import require_file_place, require_no_input, resolved
    from efficientad.timing import measure_times
    from efficientad_ext.model_file import load_model, write_atomically

    if json_file is not None:
        require_file_place(json_file)
        require_no_input(json_file, resolved([model]))
    timing = measure_times(
        load_model(model), device_named(device), precision=precision, passes=passes
    )
    for line in timing.lines():
        click.echo(line)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(timing.record(), indent=2) + "\n").encode())
