"""The report's page: figures, charts and gallery in one HTML file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from itertools import islice
from pathlib import Path

from efficientad.evaluation import Evaluation, ScoredImage
from efficientad.figures import title
from efficientad.histogram import score_histogram
from efficientad.metrics import image_roc_curve
from efficientad.metrics.pixels import PRO_LIMIT
from efficientad.progress import with_progress
from efficientad.report.charts import curve_chart, histogram_chart
from efficientad.report.gallery import Section, choose, render
from efficientad.report.style import STYLE
from efficientad_ext.detector import Detector
from efficientad_ext.model_file import write_atomically

REPORT = "report.html"
GALLERY_ROOM = 150
_HEADLINES = ("image_auroc", "au_pro")

# The browser is told to load nothing at all, from nowhere.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(folder: Path | str, detector: Detector, evaluation: Evaluation, name: str) -> Path:
    """Writes ``report.html`` into a folder that exists, all at once.

    The page holds the histograms of the scores with the threshold, the ROC and PRO curves, the
    figures (and, for programs, the whole of `Evaluation.summary` as JSON in the element
    ``figures``), and a gallery, sorted by score: false rejects and misses first, then right
    verdicts, up to 150 of each; of every image its combined, local and global map, and its mask.

    Args:
        folder: where to write to.
        detector: the model that was evaluated; it makes the gallery's maps.
        evaluation: its result.
        name: what was evaluated, for the heading.

    Returns:
        The file.

    Raises:
        OSError: if the file cannot be written; a previous report is unchanged then.
    """
    threshold = detector.threshold
    summary = json.dumps(evaluation.summary()).replace("<", "\\u003c")
    page = "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(name)}: evaluation</title><style>{STYLE}</style></head>",
            f"<body><main><h1>{escape(name)}</h1>",
            _headlines(evaluation),
            _charts(evaluation, threshold),
            _figures(evaluation, threshold),
            *_gallery(detector, evaluation.scored),
            f'</main><script type="application/json" id="figures">{summary}</script>',
            "</body></html>\n",
        ]
    )
    file = Path(folder) / REPORT
    write_atomically(file, page.encode(errors="backslashreplace"))
    return file


def _headlines(evaluation: Evaluation) -> str:
    """What to know first: how well scores and maps rank, and what the threshold makes of it."""
    figures = evaluation.figures.values
    counts = {
        anomalous: sum(one.image.anomalous == anomalous for one in evaluation.scored)
        for anomalous in (True, False)
    }
    headlines = [
        *((f"{figures[key]:.4f}", title(key)) for key in _HEADLINES if key in figures),
        (_percent(evaluation.detected), f"of {counts[True]} anomalous images detected"),
        (_percent(evaluation.false_alarms), f"of {counts[False]} good images reported"),
    ]
    panels = "".join(
        f'<div class="panel"><b>{escape(value)}</b><small>{escape(what)}</small></div>'
        for value, what in headlines
    )
    return f'<div class="row headlines">{panels}</div>'


def _figures(evaluation: Evaluation, threshold: float) -> str:
    metrics = [(title(key), f"{value:.4f}") for key, value in evaluation.figures.values.items()]
    by_defect = [
        (f"image AU-ROC, {kind} only", f"{value:.4f}")
        for kind, value in evaluation.auroc_by_defect.items()
    ]
    verdicts = [
        ("threshold", f"{threshold:.4f}"),
        ("anomalous images detected", _percent(evaluation.detected)),
        ("good images reported", _percent(evaluation.false_alarms)),
        ("images", str(len(evaluation.scored))),
        ("images that could not be read", str(len(evaluation.skipped))),
        ("images whose masks cannot be used", str(len(evaluation.skipped_masks))),
        ("anomalous images without a marked pixel", str(len(evaluation.unmarked))),
    ]
    unavailable = [(title(key), why) for key, why in evaluation.figures.unavailable.items()]
    tables = "".join(
        f'<div class="panel">{_table(rows, kind)}</div>'
        for rows, kind in (
            (metrics, "number"),
            (by_defect, "number"),
            (verdicts, "number"),
            (unavailable, "reason"),
        )
        if rows
    )
    return f'<h2>Figures</h2><div class="row figures">{tables}</div>'


def _table(rows: Sequence[tuple[str, str]], kind: str) -> str:
    cells = "".join(
        f'<tr><td>{escape(what)}</td><td class="{kind}">{escape(value)}</td></tr>'
        for what, value in rows
    )
    return f"<table>{cells}</table>"


def _charts(evaluation: Evaluation, threshold: float) -> str:
    scored, figures = evaluation.scored, evaluation.figures.values
    histogram = score_histogram(
        [one.score for one in scored if not one.image.anomalous],
        [one.score for one in scored if one.image.anomalous],
        threshold,
    )
    legend = (
        '<i class="normal"></i> good, <i class="anomalous"></i> anomalous; dashed: the threshold, '
        "everything right of it is reported"
    )
    charts = [("Scores", histogram_chart(histogram), legend)]
    if "image_auroc" in figures:
        curve = image_roc_curve(
            [one.score for one in scored], [one.image.anomalous for one in scored]
        )
        mark = (evaluation.false_alarms or 0.0, evaluation.detected or 0.0)
        labels = ("good images reported", "anomalous images detected")
        legend = f"AU-ROC {figures['image_auroc']:.4f}; the dot is the threshold"
        charts.append(("ROC of the images", curve_chart(curve, labels, 1, mark), legend))
    if evaluation.pro_curve is not None:
        labels = ("normal pixels reported", "mean overlap of the regions")
        chart = curve_chart(evaluation.pro_curve, labels, PRO_LIMIT)
        charts.append(("Per-region overlap", chart, f"AU-PRO {figures['au_pro']:.4f}"))
    drawn = "".join(
        f'<figure class="panel"><b>{heading}</b>{chart}<figcaption>{legend}</figcaption></figure>'
        for heading, chart, legend in charts
    )
    return f'<h2>Scores and curves</h2><div class="row charts">{drawn}</div>'


def _gallery(detector: Detector, scored: Sequence[ScoredImage]) -> list[str]:
    map_threshold = detector.map_threshold
    parts = ["<h2>Images</h2>"]
    if map_threshold > 0:
        parts.append(
            f'<div class="scale"><div></div><p><small>0</small><small>threshold of the maps, '
            f"{map_threshold:.3g}</small><small>{2 * map_threshold:.3g}</small></p></div>"
        )
    sections = choose(scored, detector.threshold, GALLERY_ROOM)
    folder = _common_folder([one.image.path for one in scored])
    shown = [(section.kind, one) for section in sections for one in section.images]
    cards = iter(
        [
            _card(detector, kind, one, one.image.path.absolute().relative_to(folder))
            for kind, one in with_progress("report", "image", shown)
        ]
    )
    for section in sections:
        parts.append(f"<h3>{_heading(section)}</h3>")
        parts += islice(cards, len(section.images))
    return parts


def _heading(section: Section) -> str:
    shown = len(section.images)
    heading = f"{section.heading}: {shown + section.left_out}"
    if not section.left_out:
        return heading
    which = "nearest to" if section.kind == "right" else "furthest from"
    return f"{heading} <small>(shown are the {shown} {which} the threshold)</small>"


def _common_folder(paths: Sequence[Path]) -> Path:
    """The folder below which all the files lie, whose name says nothing about any of them."""
    return Path(os.path.commonpath([path.absolute().parent for path in paths]))


def _card(detector: Detector, kind: str, scored: ScoredImage, name: Path) -> str:
    verdict = "anomalous" if scored.verdict else "normal"
    pictures = "".join(
        f'<figure><img src="{url}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        for caption, url in render(detector, scored).items()
    )
    parts = ""
    if scored.picturable_score is not None and scored.unpicturable_score is not None:
        parts = (
            f"<p><small>picturable score {scored.picturable_score:.4f}<br>unpicturable (PUAD) "
            f"{scored.unpicturable_score:.4f}</small></p>"
        )
    return (
        f'<article class="{kind}"><div><p><b>{scored.score:.4f}</b></p>'
        f'<p>verdict <span class="verdict {verdict}">{verdict}</span>, '
        f"is {escape(scored.image.label)}</p>{parts}"
        f"<p><small>{escape(name.as_posix())}</small></p></div>"
        f'<div class="pictures">{pictures}</div></article>'
    )


def _percent(share: float | None) -> str:
    return "none there" if share is None else f"{share:.1%}"
