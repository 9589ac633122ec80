"""The tables of the papers' ablations: which trainings and calibrations their rows are made of.

Rows that differ in nothing but their calibration share one training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from efficientad.calibration import CalibrationConfig
from efficientad.losses import P_HARD
from efficientad.reproduction.experiment import Calibration
from efficientad.reproduction.published import (
    BY_A,
    BY_B,
    BY_P_HARD,
    CUMULATIVE,
    EFFICIENTAD,
    PUAD_MEAN,
)
from efficientad.reproduction.tables import LETTERS
from efficientad_ext.architecture import Size
from efficientad_ext.model_file import QUANTILE_LEVELS
from efficientad_ext.puad import FEATURE_SOURCES, FeatureSource

MEAN_OF_COLLECTIONS = "mean"


@dataclass(frozen=True)
class Training:
    """One way to train: what of the paper's settings is changed."""

    size: Size
    p_hard: float = P_HARD
    penalty: bool = True

    @property
    def name(self) -> str:
        """For file names."""
        hard = "" if self.p_hard == P_HARD else f"-p_hard-{self.p_hard:g}"
        return f"{self.size}{hard}{'' if self.penalty else '-without-penalty'}"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        title: what is special about it.
        training: how its models are trained.
        calibration: and how calibrated.
        published: the paper's figure, None where none is known for this network.
    """

    title: str
    training: Training
    calibration: Calibration
    published: float | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        figure: which of ``headline_figures``.
        published_of: the collection whose mean the published figures are, or "mean" for the mean
            of all three collections' means.
        sizes: those that the paper has it for.
        rows: for one network.
    """

    title: str
    figure: str
    published_of: str
    sizes: tuple[Size, ...]
    rows: Callable[[Size], Sequence[Row]]


def puad_calibration(source: FeatureSource = "student") -> Calibration:
    """The papers' quantiles, and PUAD on a network's features."""
    return Calibration(f"puad-{source}", CalibrationConfig(puad_features=source), puad=True)


def _quantiles(a: float, b: float) -> Calibration:
    if (a, b) == QUANTILE_LEVELS:
        return _default()
    return Calibration(f"quantiles-{a:g}-{b:g}", CalibrationConfig((a, b)), puad=False)


def _default() -> Calibration:
    # With PUAD, although these rows do without its score: ``reproduce`` has the same result.
    return puad_calibration()


def _gaussian() -> Calibration:
    return Calibration("gaussian", CalibrationConfig(quantile_levels=None), puad=False)


def _quantile_rows(size: Size) -> list[Row]:
    a, b = QUANTILE_LEVELS
    training, known = Training(size), size == "medium"
    return [
        *(
            Row(f"a = {one:g}", training, _quantiles(one, b), figure if known else None)
            for one, figure in BY_A.items()
        ),
        *(
            Row(f"b = {one:g}", training, _quantiles(a, one), figure if known else None)
            for one, figure in BY_B.items()
        ),
    ]


def _p_hard_rows(size: Size) -> list[Row]:
    return [
        Row(
            f"p_hard = {p_hard:g}",
            Training(size, p_hard),
            _default(),
            figure if size == "medium" else None,
        )
        for p_hard, figure in BY_P_HARD.items()
    ]


def _cumulative_rows(size: Size) -> list[Row]:
    plain = Training(size, p_hard=0.0, penalty=False)
    published = CUMULATIVE if size == "small" else (None,) * len(CUMULATIVE)
    steps = (
        ("PDN", plain, _gaussian()),
        ("+ map normalisation", plain, _default()),
        ("+ hard feature loss", Training(size, penalty=False), _default()),
        ("+ pretraining penalty", Training(size), _default()),
    )
    return [Row(*step, figure) for step, figure in zip(steps, published, strict=True)]


def _isolated_rows(size: Size) -> list[Row]:
    full = Training(size)
    return [
        Row(f"EfficientAD-{LETTERS[size]}", full, _default(), EFFICIENTAD[size].detection),
        Row("without map normalisation", full, _gaussian()),
        Row("without hard feature loss", Training(size, p_hard=0.0), _default()),
        Row("without pretraining penalty", Training(size, penalty=False), _default()),
    ]


def _puad_rows(size: Size) -> list[Row]:
    return [
        Row(
            f"PUAD-{LETTERS[size]}, {source}'s features",
            Training(size),
            puad_calibration(source),
            PUAD_MEAN[size] if source == "student" else None,
        )
        for source in FEATURE_SOURCES
    ]


TABLES: Mapping[str, Table] = {
    "quantiles": Table(
        "quantiles of the map normalisation: image AU-ROC",
        "detection", MEAN_OF_COLLECTIONS, ("medium",), _quantile_rows,
    ),
    "p-hard": Table(
        "p_hard of the hard feature loss: image AU-ROC",
        "detection", MEAN_OF_COLLECTIONS, ("medium",), _p_hard_rows,
    ),
    "cumulative": Table(
        "cumulative ablation: image AU-ROC",
        "detection", MEAN_OF_COLLECTIONS, ("small",), _cumulative_rows,
    ),
    "isolated": Table(
        "isolated ablation: image AU-ROC",
        "detection", MEAN_OF_COLLECTIONS, ("small",), _isolated_rows,
    ),
    "puad": Table(
        "PUAD's feature extractor: image AU-ROC, all anomalies pooled",
        "puad", "MVTec LOCO", ("small", "medium"), _puad_rows,
    ),
}  # fmt: skip
"""The tables by their names on the command line."""
