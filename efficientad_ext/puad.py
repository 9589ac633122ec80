"""PUAD's second score, for anomalies that have no place in the picture (ICIP 2024, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from efficientad_ext._checks import check_type
from efficientad_ext._model_values import (
    check_tensor,
    checked_number,
    checked_numbers,
)
from efficientad_ext.architecture import FEATURE_CHANNELS

FeatureSource: TypeAlias = Literal["student", "teacher"]
FEATURE_SOURCES: tuple[FeatureSource, ...] = get_args(FeatureSource)


@dataclass(frozen=True)
class Normalisation:
    """What makes a score a number of standard deviations: (score - mean) / deviation.

    Attributes:
        mean: of the score over held-out normal images.
        deviation: its standard deviation there, positive.
    """

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        for name in ("mean", "deviation"):
            number = checked_number(f"the {name} of a score's normalisation", getattr(self, name))
            object.__setattr__(self, name, number)
        if self.deviation <= 0:
            raise ValueError(
                f"the deviation of a score's normalisation is {self.deviation}; expected a "
                "positive number"
            )

    def __call__(self, score: Tensor) -> Tensor:
        """The normalised score."""
        return (score - self.mean) / self.deviation


@dataclass(frozen=True, eq=False)
class Puad:
    """What normal images' features are like, and how their score joins EfficientAD's.

    The feature of an image is the mean over space of 384 channels. The unpicturable score is its
    Mahalanobis distance from those of the training images; the picturable score is EfficientAD's,
    the maximum of the combined map. Both are normalised and added with their weights.

    Attributes:
        mean: (384,) float64, of the features.
        factor: (384, 384) float64, lower triangular with a positive diagonal: the Cholesky factor L
            of the features' covariance L L^T.
        picturable: normalisation of the picturable score.
        unpicturable: normalisation of the unpicturable score.
        weights: of the two normalised scores in the sum.
        source: whose output the features are pooled from: "student" for its channels that imitate
            the teacher, "teacher" for the teacher's output, normalised with its mean and deviation
            as the student imitates it.

    Raises:
        TypeError: a part is something else than it has to be.
        ValueError: a part has the wrong shape or type, or is not finite, or `factor` is no Cholesky
            factor.
    """

    mean: Tensor = field(repr=False)
    factor: Tensor = field(repr=False)
    picturable: Normalisation
    unpicturable: Normalisation
    weights: tuple[float, float] = (1.0, 1.0)
    source: FeatureSource = "student"

    def __post_init__(self) -> None:
        channels = FEATURE_CHANNELS
        check_tensor("PUAD's mean", self.mean, torch.float64, (channels,))
        check_tensor("PUAD's factor", self.factor, torch.float64, (channels, channels))
        if bool(self.factor.triu(1).any()) or not bool((self.factor.diagonal() > 0).all()):
            raise ValueError("PUAD's factor is not a Cholesky factor")
        for name in ("picturable", "unpicturable"):
            check_type(f"PUAD's {name}", getattr(self, name), Normalisation, "a Normalisation")
        object.__setattr__(self, "weights", checked_numbers("PUAD's weights", self.weights, 2))
        check_source(self.source)

    def to(self, device: torch.device) -> Puad:
        """The same on a device."""
        return replace(self, mean=self.mean.to(device), factor=self.factor.to(device))

    def unpicturable_score(self, features: Tensor) -> Tensor:
        """The Mahalanobis distances.

        Args:
            features: (N, 384), of any floating type, on the device of the statistics.

        Returns:
            (N,) float64, on the same device.
        """
        centred = features.double() - self.mean
        return torch.linalg.solve_triangular(self.factor, centred.T, upper=False).norm(dim=0)

    def final_score(self, picturable: Tensor, unpicturable: Tensor) -> Tensor:
        """The weighted sum of both normalised scores: (N,) and (N,) to (N,) float64."""
        return self.weights[0] * self.picturable(picturable.double()) + self.weights[
            1
        ] * self.unpicturable(unpicturable.double())


def check_source(source: str) -> None:
    """Raises ValueError unless PUAD's features can be pooled from a network of that name."""
    if source not in FEATURE_SOURCES:
        raise ValueError(
            f"PUAD's features are to be of {source!r}; expected {' or '.join(FEATURE_SOURCES)}"
        )
