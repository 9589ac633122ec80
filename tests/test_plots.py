"""The pictures by matplotlib: what is drawn is what was measured, and they can be saved."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from efficientad import plots
from efficientad.datasets import LabelledImage
from efficientad.evaluation import Evaluation, ScoredImage, evaluate, summarize
from efficientad.explanation import explain
from efficientad.metrics import image_roc_curve
from efficientad.pictures import colour_map, display_values
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from efficientad_ext.detector import Detector


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector.load(tiny_model)


@pytest.fixture(scope="module")
def evaluation(detector: Detector, tiny_data: Path) -> Evaluation:
    return evaluate(detector, tiny_data)


def drawn(figure: Figure) -> np.ndarray:
    """The pixels of a figure, by the Agg backend; and it can be saved."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # not blank
    for kind in ("png", "pdf", "svg"):
        buffer = BytesIO()
        figure.savefig(buffer, format=kind)
        assert len(buffer.getvalue()) > 1000
    return pixels


def test_the_roc_curve_is_that_of_the_scores(evaluation: Evaluation):
    figure = plots.roc_curve(evaluation)
    drawn(figure)
    curve, mark = figure.axes[0].lines
    expected = image_roc_curve(
        [one.score for one in evaluation.scored],
        [one.image.anomalous for one in evaluation.scored],
    )
    np.testing.assert_array_equal(curve.get_data(), expected)
    np.testing.assert_array_equal(
        mark.get_data(), [[evaluation.false_alarms], [evaluation.detected]]
    )
    assert curve.get_label() == f"AU-ROC {evaluation.figures.values['image_auroc']:.4f}"


def test_the_pro_curve_is_that_of_the_evaluation(evaluation: Evaluation):
    figure = plots.pro_curve(evaluation)
    drawn(figure)
    [curve] = figure.axes[0].lines
    np.testing.assert_array_equal(curve.get_data(), evaluation.pro_curve)
    assert curve.get_label() == f"AU-PRO {evaluation.figures.values['au_pro']:.4f}"
    assert figure.axes[0].get_xlim() == (0, 0.3)


def test_the_histogram_counts_every_image_on_its_side_of_the_threshold(
    evaluation: Evaluation, detector: Detector
):
    figure = plots.score_histogram(evaluation, detector.threshold)
    drawn(figure)
    axes = figure.axes[0]
    for steps, anomalous in zip(axes.patches, (False, True), strict=True):
        counts, edges, _ = steps.get_data()
        verdicts = [one.verdict for one in evaluation.scored if one.image.anomalous == anomalous]
        assert counts.sum() == len(verdicts)
        assert counts[edges[:-1] >= detector.threshold].sum() == sum(verdicts)
    assert axes.lines[0].get_xdata()[0] == detector.threshold


def test_a_result_shows_the_maps_and_the_mask(detector: Detector, evaluation: Evaluation):
    scored = next(one for one in evaluation.scored if one.image.label == "hole")
    figure = plots.result(detector, scored)
    drawn(figure)
    found = explain(detector, scored.image)
    verdict = "anomalous" if scored.verdict else "normal"
    assert figure.get_suptitle() == f"score {scored.score:.4f}, verdict {verdict}"
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["hole", "combined map", "local map", "global map", "mask"]
    shown = [axes.images[0] for axes in figure.axes]
    assert np.array_equal(shown[0].get_array(), found.image)
    assert np.array_equal(shown[4].get_array(), found.mask)
    for picture, values in zip(
        shown[1:4], (found.combined_map, found.local_map, found.global_map), strict=True
    ):
        # As in the report, but for the steps of a table of 256 colours.
        colours = picture.to_rgba(picture.get_array(), bytes=True)[..., :3].astype(int)
        expected = colour_map(display_values(values, detector.map_threshold))
        assert np.abs(colours - expected).max() <= 3


def test_a_normal_image_has_no_mask(detector: Detector, evaluation: Evaluation):
    scored = next(one for one in evaluation.scored if not one.image.anomalous)
    figure = plots.result(detector, scored)
    assert [axes.get_title() for axes in figure.axes][-1] == "global map"


def test_curves_that_are_not_there_say_why():
    good = ScoredImage(LabelledImage(Path("g"), "good"), 0.1, False)
    evaluation = summarize([good])
    with pytest.raises(ValueError, match="there is no anomalous image"):
        plots.roc_curve(evaluation)
    with pytest.raises(ValueError, match="no curve of the per-region overlap: no pixel was"):
        plots.pro_curve(evaluation)
    drawn(plots.score_histogram(evaluation, 0.5))


def test_without_matplotlib_one_sentence_says_so(
    evaluation: Evaluation, detector: Detector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for plot in (
        lambda: plots.roc_curve(evaluation),
        lambda: plots.pro_curve(evaluation),
        lambda: plots.score_histogram(evaluation, 0.5),
        lambda: plots.result(detector, evaluation.scored[0]),
    ):
        with pytest.raises(ImportError, match=r'run: pip install "efficientad-ext\[plots\]"$'):
            plot()
