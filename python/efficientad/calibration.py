"""From normal images to quantiles (EfficientAD, section 3.4), PUAD's statistics, a threshold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from efficientad.arguments import (
    check_device,
    check_list,
    check_numbers,
    config_or_default,
)
from efficientad.labelled_threshold import without_labelled_images
from efficientad.progress import with_progress
from efficientad.puad import check_count, normalisation, puad_statistics, unfitted_puad
from efficientad.threshold import (
    FALSE_REJECT_RATE,
    RATE,
    check_rate,
    choose_threshold,
    warn_if_too_few,
)
from efficientad.torch_modes import default_modes
from efficientad_ext import ops
from efficientad_ext.detector import Detection, Detector
from efficientad_ext.images import load_image
from efficientad_ext.inference import Networks
from efficientad_ext.model_file import QUANTILE_LEVELS, Model, check_model, check_quantile_levels
from efficientad_ext.puad import FeatureSource, check_source

# A map's mean and this many standard deviations more become 0 and 0.1, so that the combined map
# counts in standard deviations.
_DEVIATIONS = 0.1

# Of so many images the activations' range is taken: it is for a choice with a wide margin.
_RANGE_IMAGES = 16


@dataclass(frozen=True)
class CalibrationConfig:
    """What a calibration is to do; the defaults are the papers'.

    Attributes:
        quantile_levels: a and b (EfficientAD, section 3.4), 0 ≤ a < b ≤ 1; None for the Gaussian
            baseline of the paper's ablations: maps of mean 0 and variance 1 over the pixels of the
            validation images.
        puad_features: whose pooled features PUAD's second score is of: "student" or "teacher".

    Raises:
        TypeError: for a value of another type.
        ValueError: for a value out of range.
    """

    quantile_levels: tuple[float, float] | None = QUANTILE_LEVELS
    puad_features: FeatureSource = "student"

    def __post_init__(self) -> None:
        if self.quantile_levels is not None:
            levels = check_numbers("quantile_levels", self.quantile_levels)
            object.__setattr__(self, "quantile_levels", levels)
            check_quantile_levels(self.quantile_levels)
        check_source(self.puad_features)


@default_modes()
def calibrate(
    model: Model,
    images: Sequence[Path],
    device: str | torch.device = "cpu",
    config: CalibrationConfig | None = None,
    *,
    puad_images: Sequence[Path] | None = None,
    false_reject_rate: float = FALSE_REJECT_RATE,
) -> Model:
    """The model with the quantiles, PUAD's statistics and the threshold of these normal images.

    Quantiles a and b of each map over the pixels of all images are mapped to 0 and 0.1. They are
    exact and taken on the feature grid, where every value is a feature's own: nothing is
    interpolated, and there is no frame of padded zeros that would shift them.

    Quantiles, the normalisation of PUAD's scores and the threshold come from the same images. The
    threshold's promise is exact for a score that is fixed before; that these few numbers fit the
    images is not accounted for.

    Args:
        model: weights and statistics; its quantiles, PUAD and threshold are ignored.
        images: files of normal images that were not trained on.
        device: where to compute.
        config: see ``CalibrationConfig``.
        puad_images: files of normal images, usually those trained on, whose features PUAD's
            statistics are of; None for a model without PUAD.
        false_reject_rate: see `threshold.choose_threshold`.

    Raises:
        TypeError: for an argument of another type.
        ValueError: if there is no image, if a map is constant, so that a = b, or not finite, if
            there are too few images for PUAD, or if the device is not here.
    """
    check_model(model)
    check_list("images", images, "image files")
    device = check_device(device)
    config = config_or_default("config", config, CalibrationConfig)
    false_reject_rate = check_rate(false_reject_rate)
    if puad_images is not None:
        check_list("puad_images", puad_images, "image files")
        check_count(len(puad_images))
    if not images:
        raise ValueError(
            "calibration needs at least one validation image, but there is none; add normal images"
        )
    warn_if_too_few(len(images), false_reject_rate)
    levels = config.quantile_levels
    model = dataclasses.replace(
        model,
        puad=None,
        quantile_levels=levels,
        largest_activation=_largest_activation(model, images[:_RANGE_IMAGES], device),
    )
    model = dataclasses.replace(model, quantiles=_quantiles(model, images, device))
    if puad_images is not None:
        model = dataclasses.replace(model, puad=unfitted_puad(config.puad_features))
        detector = Detector(model, device)
        features = [
            detector.features(_input(path, model, device))
            for path in with_progress("features", "image", puad_images)
        ]
        puad = puad_statistics(torch.cat(features).cpu(), config.puad_features)
        model = dataclasses.replace(model, puad=puad)
    detector = Detector(model, device)
    detections = [detector(path) for path in with_progress("threshold", "image", images)]
    if model.puad is not None:
        model = _with_normalised_scores(model, detections)
    picturable = [float(one.picturable_score[0]) for one in detections]
    return dataclasses.replace(
        model,
        threshold=choose_threshold(_final_scores(model, detections), false_reject_rate),
        map_threshold=choose_threshold(picturable, false_reject_rate),
        training={
            **without_labelled_images(model.training),
            RATE: false_reject_rate,
        },
    )


@torch.no_grad()
def _largest_activation(model: Model, images: Sequence[Path], device: torch.device) -> float | None:
    """Measured in float32; None where it is not a positive number, which later steps report."""
    networks = Networks(model, device, torch.float32, images_per_pass=1)
    values = [networks.largest_activation(_input(path, model, device)) for path in images]
    largest = max(values)
    return largest if 0 < largest < math.inf else None


def _input(path: Path, model: Model, device: torch.device) -> Tensor:
    return ops.resize_normalize(torch.from_numpy(load_image(path)).to(device), model.input_size)


def _with_normalised_scores(model: Model, detections: Sequence[Detection]) -> Model:
    assert model.puad is not None
    picturable, unpicturable = zip(
        *((one.picturable_score, one.unpicturable_score) for one in detections), strict=True
    )
    puad = dataclasses.replace(
        model.puad,
        picturable=normalisation("picturable", torch.cat(picturable)),
        unpicturable=normalisation("unpicturable", torch.cat(unpicturable)),
    )
    return dataclasses.replace(model, puad=puad)


def _final_scores(model: Model, detections: Sequence[Detection]) -> list[float]:
    """The final scores, as a detector with this model gives them."""
    if model.puad is None:
        return [float(one.score[0]) for one in detections]
    scores: list[float] = []
    for one in detections:
        assert one.unpicturable_score is not None
        scores.append(
            float(model.puad.final_score(one.picturable_score, one.unpicturable_score)[0])
        )
    return scores


def _quantiles(
    model: Model, images: Sequence[Path], device: torch.device
) -> tuple[float, float, float, float]:
    # The quantiles of the model given do not enter into the uncalibrated maps.
    detector = Detector(model, device)
    maps = [
        detector.maps(_input(path, model, device))
        for path in with_progress("quantiles", "image", images)
    ]
    found: list[float] = []
    for name, pixels in zip(("local", "global"), zip(*maps, strict=True), strict=True):
        a, b = _anchors(torch.cat(pixels), model.quantile_levels)
        if not (math.isfinite(a) and math.isfinite(b)):
            raise ValueError(
                f"the {name} map is NaN or infinite on the validation images, so that it cannot be "
                "calibrated; the model's weights overflow: train it again"
            )
        if a == b:
            where = (
                "nearly everywhere"
                if model.quantile_levels is None
                else "at the {}- and the {}-quantile of its pixels".format(*model.quantile_levels)
            )
            raise ValueError(
                f"the {name} map has the same value, {a:g}, {where}, so that it cannot be "
                "calibrated; check that the validation images show something"
            )
        found += [a, b]
    return found[0], found[1], found[2], found[3]


def _anchors(pixels: Tensor, levels: tuple[float, float] | None) -> tuple[float, float]:
    """The values of a map's pixels that become 0 and 0.1."""
    if levels is not None:
        a, b = ops.quantiles(pixels, levels).tolist()
        return a, b
    mean, deviation = float(pixels.double().mean()), float(pixels.double().std(correction=0))
    return mean, mean + _DEVIATIONS * deviation
