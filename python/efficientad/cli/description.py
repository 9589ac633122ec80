"""``info`` and ``demo``."""

from __future__ import annotations

from pathlib import Path

import click

from efficientad.cli.options import FOLDER, PATH


@click.command()
@click.argument("model", type=PATH)
def info(model: Path) -> None:
    """Tell what MODEL is and how it was trained."""
    from efficientad.calibration_images import CONTENTS
    from efficientad_ext.model_file import load_model

    loaded = load_model(model)
    local_a, local_b, global_a, global_b = loaded.quantiles
    height, width = loaded.input_size
    click.echo(f"file: {model} ({model.stat().st_size / 1e6:.1f} MB)")
    click.echo(f"network: EfficientAD, {loaded.size}")
    click.echo(f"input size: {height}x{width}")
    click.echo(f"threshold: {loaded.threshold:.6g}")
    if loaded.puad is None:
        click.echo("score: EfficientAD's")
    else:
        click.echo("score: PUAD's, of the picturable and the unpicturable one")
        click.echo(f"PUAD's features: the {loaded.puad.source}'s")
        for name in ("picturable", "unpicturable"):
            normal = getattr(loaded.puad, name)
            click.echo(f"{name} score of normal images: {normal.mean:.6g} ± {normal.deviation:.6g}")
    if loaded.quantile_levels is None:
        a, b, what = "mean", "and 0.1 deviations more", "normalisation"
    else:
        (a, b), what = map(str, loaded.quantile_levels), "quantiles"
    click.echo(f"{what} of the local map: {local_a:.6g} ({a}), {local_b:.6g} ({b})")
    click.echo(f"{what} of the global map: {global_a:.6g} ({a}), {global_b:.6g} ({b})")
    for name, value in loaded.training.items():
        if name != CONTENTS:
            click.echo(f"trained with {name}: {value}")


@click.command()
@click.option(
    "--output", "-o", type=FOLDER, default="efficientad-demo", show_default=True,
    help="Folder for the images, the model and the results.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: 400]")
def demo(output: Path, steps: int | None) -> None:
    """Make images of cloth with planted defects, train on the good ones, and find the defects."""
    from efficientad.demo import STEPS, run_demo

    result = run_demo(output, STEPS if steps is None else steps)
    click.echo(f"image AU-ROC: {result.figures.values['image_auroc']:.4f}")
    click.echo(f"picture: {output / 'demo.png'}")
