"""The pictures of a report for your own documents, by matplotlib (the extra ``[plots]``).

Every function returns a figure, to be saved (``figure.savefig("roc.pdf")``) or shown by a notebook.
No window is opened, and matplotlib's state is left alone.

Each raises ImportError, with the command to install it, where matplotlib is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from efficientad.evaluation import Evaluation, ScoredImage
from efficientad.explanation import explain
from efficientad.histogram import score_histogram as histogram_of
from efficientad.metrics import image_roc_curve
from efficientad.metrics.pixels import PRO_LIMIT
from efficientad.pictures import ANOMALOUS_COLOUR, NORMAL_COLOUR, colour_map, display_values
from efficientad_ext.detector import Detector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

_NORMAL, _ANOMALOUS = (
    tuple(part / 255 for part in colour) for colour in (NORMAL_COLOUR, ANOMALOUS_COLOUR)
)


def roc_curve(evaluation: Evaluation) -> Figure:
    """The ROC curve of the images, with a dot at the model's threshold.

    Raises:
        ValueError: there are no normal or no anomalous images.
    """
    axes = _axes("good images reported", "anomalous images detected")
    scored = evaluation.scored
    x, y = image_roc_curve([one.score for one in scored], [one.image.anomalous for one in scored])
    axes.plot(x, y, color=_NORMAL, label=f"AU-ROC {evaluation.figures.values['image_auroc']:.4f}")
    axes.plot(
        [evaluation.false_alarms or 0.0],
        [evaluation.detected or 0.0],
        "o",
        color=_ANOMALOUS,
        label="threshold",
    )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right")
    return _figure_of(axes)


def pro_curve(evaluation: Evaluation) -> Figure:
    """The curve of the per-region overlap, up to the false positive rate of 30 %.

    Raises:
        ValueError: there are no masks, or what else is the reason for having no AU-PRO.
    """
    axes = _axes("normal pixels reported", "mean overlap of the regions")
    if evaluation.pro_curve is None:
        reason = evaluation.figures.unavailable.get("au_pro", "no pixel was evaluated")
        raise ValueError(f"there is no curve of the per-region overlap: {reason}")
    x, y = evaluation.pro_curve
    axes.plot(x, y, color=_NORMAL, label=f"AU-PRO {evaluation.figures.values['au_pro']:.4f}")
    axes.set(xlim=(0, PRO_LIMIT), ylim=(0, 1.01))
    axes.legend(loc="lower right")
    return _figure_of(axes)


def score_histogram(evaluation: Evaluation, threshold: float) -> Figure:
    """The histograms of the scores of normal and of anomalous images.

    Args:
        evaluation: what was scored.
        threshold: the model's threshold, see `Detector.threshold`; everything right of it is
            reported.
    """
    axes = _axes("image score", "images")
    histogram = histogram_of(
        [one.score for one in evaluation.scored if not one.image.anomalous],
        [one.score for one in evaluation.scored if one.image.anomalous],
        threshold,
    )
    for name, counts, colour in (
        ("good", histogram.normal, _NORMAL),
        ("anomalous", histogram.anomalous, _ANOMALOUS),
    ):
        axes.stairs(counts, histogram.edges, fill=True, alpha=0.5, color=colour, label=name)
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.legend()
    return _figure_of(axes)


def result(detector: Detector, scored: ScoredImage) -> Figure:
    """One image beside its combined, local and global map, and its mask if it has one.

    The maps are on one colour scale, whose middle is the model's threshold for maps.

    Args:
        detector: the model.
        scored: one of the images of an evaluation, see `Evaluation.scored`.

    Raises:
        ValueError, OSError: if the file cannot be read as an image.
    """
    colours = _colours()
    found = explain(detector, scored.image)
    maps = {
        "combined map": found.combined_map,
        "local map": found.local_map,
        "global map": found.global_map,
    }
    count = 1 + len(maps) + (found.mask is not None)
    height, width = found.image.shape[:2]
    figure = _new_figure(count * (0.2 + 2.4 * min(2.0, max(0.5, width / height))), 3.1)
    all_axes = figure.subplots(1, count)
    all_axes[0].imshow(found.image)
    all_axes[0].set_title(scored.image.label)
    for axes, (name, values) in zip(all_axes[1:], maps.items(), strict=False):
        shown = display_values(values, detector.map_threshold)
        axes.imshow(shown, cmap=colours, vmin=0, vmax=1)
        axes.set_title(name)
    if found.mask is not None:
        all_axes[-1].imshow(found.mask, cmap="gray", vmin=0, vmax=1)
        all_axes[-1].set_title("mask")
    for axes in all_axes:
        axes.set_axis_off()
    verdict = "anomalous" if scored.verdict else "normal"
    figure.suptitle(f"score {scored.score:.4f}, verdict {verdict}", fontsize="medium")
    return figure


def _colours() -> ListedColormap:
    """The colours of `pictures.colour_map` as matplotlib wants them."""
    _require_matplotlib()
    from matplotlib.colors import ListedColormap

    return ListedColormap(colour_map(np.linspace(0, 1, 256)[None])[0] / 255)


def _axes(x_label: str, y_label: str) -> Axes:
    axes = _new_figure(5.0, 4.0).add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    return axes


def _figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None, "the axes were made in a figure"
    return figure


def _new_figure(width: float, height: float) -> Figure:
    _require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'pictures by matplotlib need it; run: pip install "efficientad-ext[plots]"'
        ) from error
