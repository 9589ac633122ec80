"""PUAD's statistics from normal images (ICIP 2024, section 3)."""

from __future__ import annotations

import logging

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor

from efficientad_ext.architecture import FEATURE_CHANNELS
from efficientad_ext.puad import FeatureSource, Normalisation, Puad

# From two, the covariance's shrinkage is none: both lie as far from their mean.
FEWEST_IMAGES = 3

logger = logging.getLogger(__name__)

_NEUTRAL = Normalisation(0.0, 1.0)


def check_count(images: int) -> None:
    """Raises ValueError if there are too few images for a covariance."""
    if images < FEWEST_IMAGES:
        raise ValueError(
            f"PUAD needs at least {FEWEST_IMAGES} normal images, but there is {images}; add "
            "images, or go without it (--no-puad)"
        )


def unfitted_puad(source: FeatureSource) -> Puad:
    """PUAD before its statistics: it says whose features a detector is to pool."""
    mean = torch.zeros(FEATURE_CHANNELS, dtype=torch.float64)
    return Puad(mean, torch.eye(len(mean), dtype=mean.dtype), _NEUTRAL, _NEUTRAL, source=source)


def puad_statistics(features: Tensor, source: FeatureSource = "student") -> Puad:
    """Mean and covariance of normal images' features, without the scores' normalisation.

    Fewer images than 384 channels is the normal case: the sample covariance is then singular, and
    its shrinkage towards a multiple of the identity (Ledoit and Wolf, 2004) is what makes distances
    possible.

    Args:
        features: (N, 384), see `Detector.features` and `check_count`.
        source: what they were pooled from.

    Raises:
        ValueError: all features are equal.
    """
    estimate = LedoitWolf().fit(features.double().numpy())
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(estimate.covariance_))
    if failed:
        raise ValueError(
            "PUAD needs images that differ, but the features of these are all the same, or nearly; "
            "check the images, or go without it (--no-puad)"
        )
    mean = torch.from_numpy(estimate.location_)
    # LAPACK's order of memory would give other last bits than the same factor read from a file.
    return Puad(mean, factor.contiguous(), _NEUTRAL, _NEUTRAL, source=source)


def normalisation(name: str, scores: Tensor) -> Normalisation:
    """Mean and standard deviation of one of PUAD's scores over held-out normal images.

    Where all of them are equal, or there is one only, the deviation is taken to be 1 and the log
    says so.

    Args:
        name: of the score, for the log.
        scores: (N,), N at least 1.
    """
    scores = scores.double()
    deviation = float(scores.std(correction=0))
    if deviation == 0:
        logger.warning(
            "the %s score is the same for all %d validation images, so that its spread is unknown "
            "and taken to be 1; add validation images for a final score to rely on",
            name,
            len(scores),
        )
        deviation = 1.0
    return Normalisation(float(scores.mean()), deviation)
