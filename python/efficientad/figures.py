"""The figures of a test set: every metric that its images and masks allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from efficientad.datasets import LabelledSet
from efficientad.datasets.layout import GOOD
from efficientad.datasets.loco import LOGICAL, STRUCTURAL
from efficientad.metrics import (
    PixelScores,
    image_auroc,
    image_average_precision,
    image_f1_max,
)

SPRO_LIMITS = {"au_spro_5": 0.05, "au_spro_30": 0.3}
"""The false positive rates to which the AU-sPRO is integrated, by the figures' names."""

_TITLES = {
    "image_auroc": "image AU-ROC",
    "image_average_precision": "image average precision",
    "image_f1_max": "image best F1",
    "pixel_auroc": "pixel AU-ROC",
    "au_pro": "AU-PRO to 30 %",
    "au_spro_5": "AU-sPRO to 5 %",
    "au_spro_30": "AU-sPRO to 30 %",
}
_SUFFIXES = {
    "_logical": ", logical anomalies",
    "_structural": ", structural anomalies",
    "_equally_weighted": ", mean of logical and structural",
    "_pooled": ", pooled",
}


@dataclass(frozen=True)
class Figures:
    """Metrics by name, all in [0, 1], and why others are missing.

    Attributes:
        values: the metrics; see `title` for what they are.
        unavailable: for each metric that the data do not allow, why.
    """

    values: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, figure: Callable[[], float]) -> None:
        """Adds a figure, or why it is not defined: the sentence of its ValueError."""
        try:
            self.values[name] = figure()
        except ValueError as error:
            self.unavailable[name] = str(error)


def title(name: str) -> str:
    """What a figure is, for people."""
    for suffix, words in _SUFFIXES.items():
        if name.endswith(suffix):
            return _TITLES[name.removesuffix(suffix)] + words
    return _TITLES[name]


def compute_figures(
    scores: Sequence[float],
    labels: Sequence[str],
    pixels: PixelScores | None = None,
    test_set: LabelledSet | None = None,
) -> Figures:
    """Computes what the data allow.

    Args:
        scores: one per image.
        labels: one per image; ``good`` is normal.
        pixels: the pixels' scores; None where there are no masks. Those of MVTec LOCO have their
            labels for groups.
        test_set: what was scored.
    """
    figures = Figures()
    anomalous = [label != GOOD for label in labels]
    figures.attempt("image_auroc", lambda: image_auroc(scores, anomalous))
    is_loco = test_set is not None and test_set.format == "mvtec_loco"
    if is_loco:
        _add_kinds(figures, "image_auroc", lambda kind: _auroc_of(kind, scores, labels))
    figures.attempt("image_average_precision", lambda: image_average_precision(scores, anomalous))
    figures.attempt("image_f1_max", lambda: image_f1_max(scores, anomalous))
    if test_set is None:
        return figures
    if pixels is None:
        names = ["pixel_auroc", "au_pro", *(SPRO_LIMITS if is_loco else ())]
        figures.unavailable.update(dict.fromkeys(names, "there are no masks"))
        return figures
    figures.attempt("pixel_auroc", pixels.pixel_auroc)
    figures.attempt("au_pro", pixels.au_pro)
    if is_loco:
        _add_spro(figures, pixels, test_set)
    return figures


def auroc_by_label(scores: Sequence[float], labels: Sequence[str]) -> dict[str, float]:
    """The image AU-ROC of the good images and one kind of defect; empty without good images."""
    kinds = sorted(set(labels) - {GOOD}) if GOOD in labels else ()
    return {kind: _auroc_of(kind, scores, labels) for kind in kinds}


def _auroc_of(kind: str, scores: Sequence[float], labels: Sequence[str]) -> float:
    chosen = [index for index, label in enumerate(labels) if label in (GOOD, kind)]
    if not any(labels[index] == kind for index in chosen):
        raise ValueError(f"there are no images of the kind {kind}")
    return image_auroc(
        [scores[index] for index in chosen], [labels[index] == kind for index in chosen]
    )


def _add_kinds(figures: Figures, name: str, of_kind: Callable[[str], float]) -> None:
    """A figure of logical and of structural anomalies, each with all normal images, and the mean.

    The mean is how the authors of MVTec LOCO weight the two.
    """
    figures.attempt(f"{name}_logical", partial(of_kind, LOGICAL))
    figures.attempt(f"{name}_structural", partial(of_kind, STRUCTURAL))
    parts = [f"{name}_logical", f"{name}_structural"]
    if missing := [part for part in parts if part not in figures.values]:
        reason = f"the mean needs both kinds: {figures.unavailable[missing[0]]}"
        figures.unavailable[f"{name}_equally_weighted"] = reason
    else:
        mean = sum(figures.values[part] for part in parts) / 2
        figures.values[f"{name}_equally_weighted"] = mean


def _add_spro(figures: Figures, pixels: PixelScores, test_set: LabelledSet) -> None:
    if test_set.saturations is None:
        reason = "the AU-sPRO needs the saturation thresholds in defects_config.json"
        figures.unavailable.update(dict.fromkeys(SPRO_LIMITS, reason))
        return
    for name, limit in SPRO_LIMITS.items():
        _add_kinds(figures, name, partial(_spro_of, pixels, limit))
        figures.attempt(f"{name}_pooled", partial(pixels.au_spro, limit))


def _spro_of(pixels: PixelScores, limit: float, kind: str) -> float:
    return pixels.au_spro(limit, {GOOD, kind})
