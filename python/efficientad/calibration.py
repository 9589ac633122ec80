"""From validation images to quantiles and a threshold (section 3.4 of the paper)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from efficientad.progress import with_progress
from efficientad_ext import ops
from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image
from efficientad_ext.model_file import Model

logger = logging.getLogger(__name__)

QUANTILES = (0.9, 0.995)
FEW_IMAGES = 20


def calibrate(model: Model, images: Sequence[Path], device: str | torch.device = "cpu") -> Model:
    """The model with the quantiles and the threshold that follow from held-out normal images.

    Quantiles a = 0.9 and b = 0.995 of each map over the pixels of all images are mapped to 0 and
    0.1. They are exact and taken on the feature grid, where every value is a feature's own: nothing
    is interpolated, and there is no frame of padded zeros that would shift them.

    The threshold is the highest image score among the validation images. If these and the images to
    come are alike, a new normal image exceeds the highest of n scores with probability 1 / (n + 1);
    below 20 images that is worth a warning in the log.

    Args:
        model: weights and statistics; its quantiles and threshold are ignored.
        images: files of normal images that were not trained on.
        device: where to compute.

    Raises:
        ValueError: if there is no image, or if a map is constant, so that a = b.
    """
    if not images:
        raise ValueError(
            "calibration needs at least one validation image, but there is none; add normal images"
        )
    if len(images) < FEW_IMAGES:
        logger.warning(
            "the threshold rests on %d validation image%s: a new normal image exceeds it with "
            "probability 1/%d; hold out more for a threshold to rely on",
            len(images),
            "" if len(images) == 1 else "s",
            len(images) + 1,
        )
    calibrated = dataclasses.replace(model, quantiles=_quantiles(model, images, device))
    detector = Detector(calibrated, device)
    threshold = max(
        float(detector(path).score[0]) for path in with_progress("threshold", "image", images)
    )
    return dataclasses.replace(calibrated, threshold=threshold)


def _quantiles(
    model: Model, images: Sequence[Path], device: str | torch.device
) -> tuple[float, float, float, float]:
    # The quantiles of the model given do not enter into the uncalibrated maps.
    detector = Detector(model, device)
    maps = [
        detector.maps(
            ops.resize_normalize(torch.from_numpy(load_image(path)).to(device), model.input_size)
        )
        for path in with_progress("quantiles", "image", images)
    ]
    found: list[float] = []
    for name, pixels in zip(("local", "global"), zip(*maps, strict=True), strict=True):
        a, b = ops.quantiles(torch.cat(pixels), QUANTILES).tolist()
        if a == b:
            raise ValueError(
                f"the {name} map has the same value, {a:g}, at the {QUANTILES[0]}- and the "
                f"{QUANTILES[1]}-quantile of its pixels, so that it cannot be calibrated; check "
                "that the validation images show something"
            )
        found += [a, b]
    return found[0], found[1], found[2], found[3]
