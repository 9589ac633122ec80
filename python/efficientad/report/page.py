"""The report's page: figures, charts and gallery in one HTML file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from itertools import islice
from pathlib import Path

from efficientad.evaluation import Evaluation, ScoredImage
from efficientad.figures import title
from efficientad.metrics import image_roc_curve
from efficientad.metrics.pixels import PRO_LIMIT
from efficientad.pictures import ANOMALOUS_COLOUR, NORMAL_COLOUR, colour_map_css
from efficientad.progress import with_progress
from efficientad.report.charts import curve_chart, score_histogram
from efficientad.report.gallery import choose, render
from efficientad_ext.detector import Detector
from efficientad_ext.model_file import write_atomically

REPORT = "report.html"
GALLERY_ROOM = 150

# The browser is told to load nothing at all, from nowhere.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = f"""
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem;
  padding: 0 1rem; color: #1b1b1b; background: #fff; }}
h1, h2 {{ font-weight: 600; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }}
td.number {{ font-variant-numeric: tabular-nums; }}
.charts {{ display: flex; flex-wrap: wrap; gap: 1.5rem; }}
figure {{ margin: 0; }}
.charts figure {{ width: 22.5rem; }}
svg text {{ font: 11px system-ui, sans-serif; fill: #444; }}
svg .grid {{ stroke: #ddd; fill: none; }}
svg .curve {{ stroke: rgb{NORMAL_COLOUR}; stroke-width: 2; fill: none; }}
svg .mark {{ fill: rgb{ANOMALOUS_COLOUR}; }}
svg .threshold {{ stroke: #1b1b1b; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }}
.scale {{ height: .9rem; width: 20rem; max-width: 100%; background: {colour_map_css()}; }}
.ends {{ display: flex; justify-content: space-between; width: 20rem; max-width: 100%; }}
article {{ border-left: .35rem solid #bbb; margin: 1rem 0; padding: .2rem 0 .2rem .8rem; }}
article.false-reject {{ border-color: rgb{NORMAL_COLOUR}; }}
article.miss {{ border-color: rgb{ANOMALOUS_COLOUR}; }}
article p {{ margin: 0 0 .4rem; overflow-wrap: anywhere; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: .6rem; }}
.pictures img {{ display: block; image-rendering: auto; }}
figcaption, .ends {{ color: #555; font-size: .85rem; }}
"""


def write_report(folder: Path | str, detector: Detector, evaluation: Evaluation, name: str) -> Path:
    """Writes ``report.html`` into a folder that exists, all at once.

    The page holds the figures (and, for programs, the whole of `Evaluation.summary` as JSON in the
    element ``figures``), the ROC and PRO curves, the histograms of the scores with the threshold,
    and a gallery, sorted by score: false rejects and misses first, then right verdicts, up to 150
    of each; of every image its combined, local and global map, and its mask.

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
            f"<title>{escape(name)}: evaluation</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(name)}</h1>",
            _figures(evaluation, threshold),
            _charts(evaluation, threshold),
            *_gallery(detector, evaluation.scored),
            f'<script type="application/json" id="figures">{summary}</script>',
            "</body></html>\n",
        ]
    )
    file = Path(folder) / REPORT
    write_atomically(file, page.encode())
    return file


def _figures(evaluation: Evaluation, threshold: float) -> str:
    rows = [
        *((title(key), f"{value:.4f}") for key, value in evaluation.figures.values.items()),
        *(
            (f"image AU-ROC, {kind} only", f"{value:.4f}")
            for kind, value in evaluation.auroc_by_defect.items()
        ),
        ("threshold", f"{threshold:.4f}"),
        ("anomalous images detected", _percent(evaluation.detected)),
        ("good images reported", _percent(evaluation.false_alarms)),
        ("images", str(len(evaluation.scored))),
        ("images that could not be read", str(len(evaluation.skipped))),
        ("images whose masks cannot be used", str(len(evaluation.skipped_masks))),
        ("anomalous images without a marked pixel", str(len(evaluation.unmarked))),
        *((title(key), why) for key, why in evaluation.figures.unavailable.items()),
    ]
    cells = "".join(
        f'<tr><td>{escape(what)}</td><td class="number">{escape(value)}</td></tr>'
        for what, value in rows
    )
    return f"<table>{cells}</table>"


def _charts(evaluation: Evaluation, threshold: float) -> str:
    scored, figures = evaluation.scored, evaluation.figures.values
    charts = []
    if "image_auroc" in figures:
        curve = image_roc_curve(
            [one.score for one in scored], [one.image.anomalous for one in scored]
        )
        mark = (evaluation.false_alarms or 0.0, evaluation.detected or 0.0)
        charts.append(
            (
                f"ROC of the images, AU-ROC {figures['image_auroc']:.4f}; the dot is the threshold",
                curve_chart(curve, ("good images reported", "anomalous images detected"), 1, mark),
            )
        )
    if evaluation.pro_curve is not None:
        labels = ("normal pixels reported", "mean overlap of the regions")
        charts.append(
            (
                f"per-region overlap, AU-PRO {figures['au_pro']:.4f}",
                curve_chart(evaluation.pro_curve, labels, PRO_LIMIT),
            )
        )
    charts.append(
        (
            "scores of good images (blue) and anomalous ones (red); the dashed line is the "
            "threshold",
            score_histogram(
                [one.score for one in scored if not one.image.anomalous],
                [one.score for one in scored if one.image.anomalous],
                threshold,
            ),
        )
    )
    drawn = "".join(
        f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, chart in charts
    )
    return f'<h2>Curves and scores</h2><div class="charts">{drawn}</div>'


def _gallery(detector: Detector, scored: Sequence[ScoredImage]) -> list[str]:
    map_threshold = detector.map_threshold
    parts = ["<h2>Images</h2>"]
    if map_threshold > 0:
        parts.append(
            f'<p>Maps:</p><div class="scale"></div><div class="ends"><span>0</span>'
            f"<span>threshold, {map_threshold:.3g}</span><span>{2 * map_threshold:.3g}</span></div>"
        )
    sections = choose(scored, detector.threshold, GALLERY_ROOM)
    shown = [(section.kind, one) for section in sections for one in section.images]
    cards = iter(
        [_card(detector, kind, one) for kind, one in with_progress("report", "image", shown)]
    )
    for section in sections:
        count = len(section.images) + section.left_out
        parts.append(f"<h3>{section.heading}: {count}</h3>")
        parts += islice(cards, len(section.images))
        if section.left_out:
            parts.append(f"<p>{section.left_out} more are not shown.</p>")
    return parts


def _card(detector: Detector, kind: str, scored: ScoredImage) -> str:
    verdict = "anomalous" if scored.verdict else "normal"
    pictures = "".join(
        f'<figure><img src="{url}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        for caption, url in render(detector, scored).items()
    )
    parts = ""
    if scored.picturable_score is not None and scored.unpicturable_score is not None:
        parts = (
            f"; picturable score {scored.picturable_score:.4f}, unpicturable (PUAD) "
            f"{scored.unpicturable_score:.4f}"
        )
    return (
        f'<article class="{kind}"><p><b>{scored.score:.4f}</b>, verdict {verdict}, is '
        f"{escape(scored.image.label)}: {escape(str(scored.image.path))}{parts}</p>"
        f'<div class="pictures">{pictures}</div></article>'
    )


def _percent(share: float | None) -> str:
    return "none there" if share is None else f"{share:.1%}"
