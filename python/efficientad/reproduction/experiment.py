"""One training, and the results of its calibrations on one category's test images.

What is finished is recognised by its result file, what is trained by its model file, and what was
interrupted by its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from efficientad.calibration import CalibrationConfig, calibrate
from efficientad.checkpoint import checkpoint_path
from efficientad.datasets import find_photos
from efficientad.datasets.loco import LOGICAL, STRUCTURAL
from efficientad.evaluation import Evaluation, ScoredImage, evaluate
from efficientad.figures import auroc_by_label, compute_figures
from efficientad.reproduction.collection import Category
from efficientad.run_images import NO_PENALTY, PROCEDURAL, find_normal_images
from efficientad.teacher import Teacher
from efficientad.training import TrainingConfig, run_settings, train
from efficientad_ext.detector import Detector
from efficientad_ext.model_file import Model, load_model, write_atomically

Settings: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Calibration:
    """One way to calibrate a trained model: its name in file names, and what it does."""

    name: str
    config: CalibrationConfig
    puad: bool

    def is_of(self, model: Model) -> bool:
        """Whether the model has been calibrated in this way."""
        if model.quantile_levels != self.config.quantile_levels:
            return False
        if model.puad is None or not self.puad:
            return self.puad == (model.puad is not None)
        return model.puad.source == self.config.puad_features

    @property
    def settings(self) -> Settings:
        """What it does, as JSON values."""
        levels = self.config.quantile_levels
        return {
            "quantiles": None if levels is None else list(levels),
            "PUAD's features": self.config.puad_features if self.puad else None,
        }


@dataclass(frozen=True)
class Experiment:
    """What one process does at a time.

    Attributes:
        category: the images.
        training: the name of this way of training, in file names.
        config: how to train.
        teacher: of the config's size.
        penalty_images: see ``train``.
        calibrations: those to evaluate, each with a result file of its own.
        output: the folder for all results.
        device: where to compute.
    """

    category: Category
    training: str
    config: TrainingConfig
    teacher: Teacher
    penalty_images: str
    calibrations: tuple[Calibration, ...]
    output: Path
    device: str

    @property
    def title(self) -> str:
        """What to call it in messages."""
        return f"{self.category.name} ({self.training}, seed {self.config.seed})"

    @property
    def model_file(self) -> Path:
        """Where its model lies, and beside it the results."""
        folder = self.output / self.training / self.category.name
        return folder / f"seed-{self.config.seed}.safetensors"

    @property
    def log_file(self) -> Path:
        """Where a process of its own writes what it has to say."""
        return self.model_file.with_suffix(".log")

    def result_file(self, calibration: Calibration) -> Path:
        """Where the result of one of its calibrations lies."""
        return self.model_file.with_suffix(f".{calibration.name}.json")

    def pending(self) -> tuple[Calibration, ...]:
        """The calibrations without a result.

        Raises:
            ValueError: if a result or the model is there, but was made with other settings.
        """
        if self.model_file.exists():
            self._check(self.model_file, load_model(self.model_file).training, self._training)
        return tuple(one for one in self.calibrations if self.result(one) is None)

    def result(self, calibration: Calibration) -> dict[str, Any] | None:
        """The content of a result file, None if there is none.

        Raises:
            ValueError: if the file is not a result, or was made with other settings.
        """
        file = self.result_file(calibration)
        if not file.is_file():
            return None
        try:
            result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            found = result["settings"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{file} is not a result of this program ({error}); delete or move it"
            ) from error
        self._check(file, found, {**self._training, **calibration.settings})
        return result

    def run(self) -> None:
        """Trains, unless the model is there, and does what is pending.

        Raises:
            FileNotFoundError, OSError, RuntimeError, ValueError: those of ``train``, ``calibrate``
                and ``evaluate``.
        """
        pending = self.pending()
        if not pending:
            return
        model = self._trained()
        for calibration in pending:
            calibrated = model if calibration.is_of(model) else self._calibrated(model, calibration)
            detector = Detector(calibrated, self.device)
            evaluation = evaluate(detector, self.category.folder, layout=self.category.format)
            result = {
                "category": self.category.name,
                "collection": self.category.collection,
                "settings": {**self._training, **calibration.settings},
                **headline_figures(evaluation),
                "evaluation": evaluation.summary(),
            }
            text = json.dumps(result, indent=2) + "\n"
            write_atomically(self.result_file(calibration), text.encode())

    @property
    def _training(self) -> Settings:
        images = self.penalty_images
        named = images in (NO_PENALTY, PROCEDURAL)
        return {
            **run_settings(self.config, self.teacher),
            "penalty images": images if named else len(find_photos(images)),
        }

    def _check(self, file: Path, found: Settings, wanted: Settings) -> None:
        for name, value in wanted.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{file} was made with another setting: {name} is {found.get(name)} there and "
                    f"{value} here; choose another folder for the results, or delete it"
                )

    def _trained(self) -> Model:
        """With the papers' calibration, whatever is to be tried on it."""
        if self.model_file.exists():
            # A training that was killed behind its last step but one: the removal of this file.
            checkpoint_path(self.model_file).unlink(missing_ok=True)
            return load_model(self.model_file)
        self.model_file.parent.mkdir(parents=True, exist_ok=True)
        return train(
            self.category.folder,
            self.model_file,
            self.teacher,
            self.config,
            penalty_images=self.penalty_images,
            device=self.device,
            resume=True,
        )

    def _calibrated(self, model: Model, calibration: Calibration) -> Model:
        """On the images that a training with this calibration would have taken."""
        trained_on, validation = find_normal_images(
            self.category.folder, model.input_size, self.config.seed
        )
        return calibrate(
            model,
            validation,
            self.device,
            calibration.config,
            puad_images=trained_on.paths if calibration.puad else None,
        )


def headline_figures(evaluation: Evaluation) -> dict[str, float | None]:
    """The figures that the papers' tables are made of, in [0, 1]; None where the data allow none.

    ``detection`` is EfficientAD's image AU-ROC, with logical and structural anomalies of MVTec LOCO
    weighted equally; ``detection_pooled`` the same with all anomalies pooled, as PUAD's authors
    report; ``puad`` that of PUAD's final score, pooled; ``localisation`` the AU-PRO to 30 %, of
    MVTec LOCO the AU-sPRO to 30 %, weighted equally, where it has its list of defects.
    """
    values = evaluation.figures.values
    labels = [one.image.label for one in evaluation.scored]
    picturable = [_picturable_score(one) for one in evaluation.scored]
    pooled = compute_figures(picturable, labels).values.get("image_auroc")
    detection = pooled
    if "image_auroc_equally_weighted" in values:
        by_kind = auroc_by_label(picturable, labels)
        detection = (by_kind[LOGICAL] + by_kind[STRUCTURAL]) / 2
    has_puad = any(one.unpicturable_score is not None for one in evaluation.scored)
    return {
        "detection": detection,
        "detection_pooled": pooled,
        "puad": values.get("image_auroc") if has_puad else None,
        "localisation": values.get("au_spro_30_equally_weighted", values.get("au_pro")),
    }


def _picturable_score(scored: ScoredImage) -> float:
    return scored.score if scored.picturable_score is None else scored.picturable_score
