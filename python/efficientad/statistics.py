"""Mean and deviation of the teacher's channels over the training images (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# A channel whose deviation is below this share of the largest deviation or mean holds nothing but
# the rounding noise of float32.
_CONSTANT_CHANNEL = 1e-6


class ChannelStatistics:
    """Mean and standard deviation per channel over any number of feature maps, in float64.

    Within a map both are taken in two passes; maps are joined by the formula of Chan et al. (1979).
    The difference of mean square and squared mean would cancel for channels far from zero.
    """

    def __init__(self, network: str = "teacher") -> None:
        """``network`` is what to call the source of the features in an error."""
        self._network = network
        self._count = 0
        self._mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, features: Tensor) -> None:
        """Takes in the features of one or more images, (N, C, H, W)."""
        values = features.detach().double().movedim(1, 0).flatten(1)
        mean = values.mean(1)
        self._join(values.shape[1], mean, (values - mean[:, None]).square().sum(1))

    def packed(self) -> Tensor:
        """What has been taken in, as a (3, C) float64 tensor for ``join`` in another process."""
        return torch.stack([torch.full_like(self._mean, self._count), self._mean, self._squares])

    def join(self, packed: Tensor) -> None:
        """Takes in what another one has taken in."""
        count, mean, squares = packed
        self._join(int(count[0]), mean, squares)

    def _join(self, count: int, mean: Tensor, squares: Tensor) -> None:
        if self._count == 0:
            self._count, self._mean, self._squares = count, mean, squares
            return
        total = self._count + count
        shift = mean - self._mean
        self._mean = self._mean + shift * (count / total)
        self._squares = self._squares + squares + shift.square() * (self._count * count / total)
        self._count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """(mean, deviation), each (C,) float64, deviation with divisor N.

        A constant channel gets the median deviation of the others, so that it contributes nothing
        on normal images and cannot blow up on anomalous ones.

        Raises:
            ValueError: if every channel is constant or the features are not finite.
        """
        deviation = (self._squares / max(1, self._count)).sqrt()
        if not (deviation.isfinite().all() and self._mean.isfinite().all()):
            raise ValueError(
                f"the {self._network} gives NaN or infinite features on the training images; "
                "check its file"
            )
        scale = torch.maximum(deviation.max(), self._mean.abs().max())
        constant = deviation <= _CONSTANT_CHANNEL * scale
        if constant.all():
            raise ValueError(
                f"the {self._network} gives the same features at every place of every training "
                f"image; check that the images show something, and the {self._network}'s file"
            )
        deviation[constant] = deviation[~constant].median()
        return self._mean, deviation


def channel_statistics(feature_maps: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """``ChannelStatistics`` of all the feature maps, each (N, C, H, W): (mean, deviation)."""
    statistics = ChannelStatistics()
    for features in feature_maps:
        statistics.add(features)
    return statistics.result()
