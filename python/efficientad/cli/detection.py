"""``predict`` and ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from efficientad.cli.options import (
    FOLDER,
    PATH,
    detector_precision_option,
    device_named,
    device_option,
    format_option,
)


@click.command()
@click.argument("model", type=PATH)
@click.argument("paths", type=PATH, nargs=-1, required=True)
@click.option("--maps", type=FOLDER, help="Folder for anomaly maps, as 32-bit float TIFF.")
@click.option("--overlays", type=FOLDER, help="Folder for images with their map over it, PNG.")
@click.option(
    "--json", "json_file", type=PATH, help="File for one JSON line per image; - for stdout."
)
@detector_precision_option
@device_option
def predict(
    model: Path,
    paths: tuple[Path, ...],
    maps: Path | None,
    overlays: Path | None,
    json_file: Path | None,
    precision: Any,
    device: str | None,
) -> None:
    """Look for anomalies in images: PATHS are image files and folders of them.

    An image that cannot be read is reported and skipped; the exit status is then 1.
    """
    from efficientad.datasets import report_skipped
    from efficientad.output import require_file_place, require_no_input, resolved
    from efficientad.prediction import find_sources, write_map, write_overlay
    from efficientad.prediction import predict as predict_file
    from efficientad_ext.detector import Detector
    from efficientad_ext.model_file import write_atomically

    sources = find_sources(paths)
    detector = Detector.load(model, device_named(device), precision=precision)
    to_stdout = json_file == Path("-")
    outputs = [] if json_file is None or to_stdout else [json_file]
    for file in outputs:
        require_file_place(file)
    for folder, suffix in ((maps, "tiff"), (overlays, "png")):
        if folder is not None:
            outputs += [folder / f"{source.name}.{suffix}" for source in sources]
    inputs = resolved([model, *(source.path for source in sources)])
    for file in outputs:
        require_no_input(file, inputs)
    lines: list[str] = []
    skipped = 0
    try:
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
                write_map(prediction.map, Path(record["map"]))
            if overlays is not None:
                record["overlay"] = str(overlays / f"{source.name}.png")
                write_overlay(prediction, detector.map_threshold, Path(record["overlay"]))
            lines.append(json.dumps(record))
            verdict = record["verdict"]
            click.echo(
                lines[-1] if to_stdout else f"{verdict:9}  {prediction.score:8.4f}  {source.path}"
            )
    finally:  # also of what there was before an interruption
        if lines and json_file is not None and not to_stdout:
            write_atomically(json_file, "".join(f"{line}\n" for line in lines).encode())
    if skipped:
        raise click.ClickException(f"{skipped} of {len(sources)} images could not be read")


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=FOLDER)
@click.option("--json", "json_file", type=PATH, help="File for the figures and all scores.")
@click.option(
    "--maps", type=FOLDER,
    help="Folder for anomaly maps, as 32-bit float TIFF, where the official evaluation scripts of "
    "MVTec AD and MVTec LOCO look for them.",
)  # fmt: skip
@click.option(
    "--report", type=FOLDER, help="Folder for report.html: figures, curves, and the images' maps."
)
@format_option
@detector_precision_option
@device_option
def evaluate(
    model: Path,
    data: Path,
    json_file: Path | None,
    maps: Path | None,
    report: Path | None,
    layout: Any,
    precision: Any,
    device: str | None,
) -> None:
    """Measure MODEL on the test images in DATA, which is one scenario of a data set.

    DATA has the layout of MVTec AD (test/good, test/<kind of defect>, ground_truth/<kind>), of
    MVTec LOCO, or of VisA; or it has a list images.csv with the columns image, split, label and
    mask; or the folders good and <kind of defect>. Metrics that need masks, or images of a kind
    that is missing, say so.
    """
    from efficientad.evaluation import evaluate as evaluate_model
    from efficientad.labelled_threshold import warn_if_flattered
    from efficientad.output import (
        require_file_place,
        require_no_input,
        require_writable,
        resolved,
    )
    from efficientad.report import REPORT, write_report
    from efficientad_ext.detector import Detector
    from efficientad_ext.model_file import load_model, write_atomically

    loaded = load_model(model)
    detector = Detector(loaded, device_named(device), precision=precision)
    for folder in (maps, report, None if json_file is None else json_file.parent):
        if folder is not None:
            require_writable(folder)
    if json_file is not None:
        require_file_place(json_file)
    for file in (json_file, None if report is None else report / REPORT):
        if file is not None:
            require_no_input(file, resolved([model]))
    if maps is not None and model.suffix.lower() == ".tiff":
        raise ValueError(f"{model} is named as maps are, one of which might replace it; rename it")
    result = evaluate_model(detector, data, layout=layout, maps=maps)
    warn_if_flattered(loaded, [scored.image.path for scored in result.scored])
    for line in result.lines(detector.threshold):
        click.echo(line)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(result.summary(), indent=2) + "\n").encode())
    if report is not None:
        file = write_report(report, detector, result, f"{model.name} on {data}")
        click.echo(f"report: {file}")
    if result.skipped or result.skipped_masks:
        raise click.ClickException(
            f"{len(result.skipped)} images could not be read, and the masks of "
            f"{len(result.skipped_masks)} cannot be used"
        )
