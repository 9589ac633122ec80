"""How well the maps' pixels separate normal from anomalous, exactly and in a stream.

All figures are areas under curves over the false positive rate x, the share of normal pixels that a
threshold reports. Lowering the threshold through the score s of one anomalous pixel raises the
curve, linearly over the normal pixels of that very score, from x0 (the share of normal pixels above
s) to x1 (the share at or above s). So the area is a sum over anomalous pixels that needs, for each,
the ranks of its score among the sorted scores of the normal pixels: no curve, no list of
thresholds, no histogram. Kept are four bytes for every pixel, and four more for every annotated
defect's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores: TypeAlias = NDArray[np.float32]
    Floats: TypeAlias = NDArray[np.float64]
    Mask: TypeAlias = NDArray[np.bool_]

PRO_LIMIT = 0.3
"""The false positive rate to which the AU-PRO of MVTec AD is integrated."""

_GROWTH = 1.25
_BATCH_PIXELS = 2**20


class PixelScores:
    """The pixels' scores of a set of test images, and the figures that they give.

    Scores are compared as float32. Images may come in groups, so that figures can be had of parts
    of the images, such as the normal images and those with logical anomalies.
    """

    def __init__(self) -> None:
        self._normal: dict[str, _SortedScores] = {}
        self._components: list[_Region] = []
        self._defects: list[_Region] = []

    def add(
        self,
        anomaly_map: NDArray[Any],
        mask: NDArray[Any] | None = None,
        defects: Sequence[tuple[NDArray[Any], int]] = (),
        group: str = "",
    ) -> None:
        """Takes in one image; one that is refused leaves nothing behind.

        Args:
            anomaly_map: (H, W), floating; higher means more anomalous.
            mask: (H, W), of booleans or numbers, True or not 0 where a pixel is anomalous; None for
                a normal image.
            defects: for the AU-sPRO, each annotated defect: its (H, W) mask, a part of ``mask``,
                and its saturation area in pixels, from 1 to its size.
            group: the group that the image belongs to.

        Raises:
            TypeError: if a mask is of something else than booleans or numbers.
            ValueError: if the map has another number of dimensions, or NaN or infinite values, a
                mask's shape differs from the map's, a mask has NaN or marks no pixel, a defect
                marks pixels that ``mask`` does not, or a saturation area is out of its range.
        """
        scores = np.asarray(anomaly_map, dtype=np.float32)
        if scores.ndim != 2:
            raise ValueError(f"the anomaly map has shape {scores.shape}; expected (H, W)")
        if not np.isfinite(scores).all():
            raise ValueError("the anomaly map has NaN or infinite values; its pixels have no order")
        anomalous = None if mask is None else _as_mask(mask, scores)
        saturated: list[_Region] = []
        for defect, saturation in defects:
            marked = _as_mask(defect, scores)
            if anomalous is None or (marked & ~anomalous).any():
                raise ValueError(
                    "a defect marks pixels that the image's mask does not; expected a part of it"
                )
            saturated.append(_Region(group, _highest(scores[marked], saturation)))
        components: list[_Region] = []
        if anomalous is None:
            normal_scores = scores.ravel()
        else:
            components = [_Region(group, part) for part in _component_scores(scores, anomalous)]
            normal_scores = scores[~anomalous]
        # First what may lack memory.
        self._normal.setdefault(group, _SortedScores()).add(normal_scores)
        self._components += components
        self._defects += saturated

    def pixel_auroc(self) -> float:
        """The area under the ROC curve of all pixels, in [0, 1]; ties count one half.

        Raises:
            ValueError: if there are no normal or no anomalous pixels.
        """
        self._require(self._components, None, "pixel AU-ROC")
        sizes = [region.scores.size for region in self._components]
        areas = list(self._means(self._components, None, 1.0, _area))
        return float(np.average(areas, weights=sizes))

    def au_pro(self, limit: float = PRO_LIMIT) -> float:
        """The area under the curve of the per-region overlap (PRO), divided by ``limit``.

        The overlap is the mean share that is reported of each region; regions are the 8-connected
        components of the masks (Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021).

        Args:
            limit: the false positive rate up to which the curve is integrated, in (0, 1].

        Raises:
            ValueError: if there are no normal or no anomalous pixels, or ``limit`` is out of range.
        """
        self._require(self._components, None, "AU-PRO")
        return float(np.mean(list(self._means(self._components, None, limit, _area))))

    def au_spro(self, limit: float, groups: Collection[str] | None = None) -> float:
        """The same of the saturated per-region overlap (sPRO).

        A region is an annotated defect, connected or not; its overlap is complete as soon as its
        saturation area is reported (Bergmann et al., Beyond Dents and Scratches: Logical
        Constraints in Unsupervised Anomaly Detection and Localization, IJCV 2022).

        Args:
            limit: the false positive rate up to which the curve is integrated, in (0, 1].
            groups: whose images count, normal pixels included; None for all.

        Raises:
            ValueError: if there are no normal pixels or no annotated defects, or ``limit`` is out
                of range.
        """
        self._require(self._defects, groups, "AU-sPRO")
        chosen = [region for region in self._defects if groups is None or region.group in groups]
        return float(np.mean(list(self._means(chosen, groups, limit, _area))))

    def pro_curve(self, limit: float = PRO_LIMIT, points: int = 300) -> tuple[Floats, Floats]:
        """Exact points of the curve under which ``au_pro`` is the area.

        Args:
            limit: the false positive rate at which the curve ends, in (0, 1].
            points: how many scores of normal pixels, at most, to take of each group. Each score
                gives two points, between which the curve is straight.

        Returns:
            False positive rates, rising from 0 to ``limit``, and overlaps, rising from 0.

        Raises:
            ValueError: as ``au_pro`` does.
        """
        self._require(self._components, None, "PRO curve")
        last = np.mean(list(self._means(self._components, None, limit, _reached)))
        rank = int(limit * sum(one.size for one in self._normal.values()))
        thresholds = np.unique(
            np.concatenate([one.highest(rank, points) for one in self._normal.values()])
        )[::-1]
        rates = np.stack(self._rates(thresholds, None), axis=1)
        overlaps = np.zeros_like(rates)
        for region in self._components:
            not_above = np.searchsorted(region.scores, thresholds, side="right")
            below = np.searchsorted(region.scores, thresholds, side="left")
            overlaps += 1 - np.stack([not_above, below], axis=1) / region.scores.size
        within = rates <= limit
        inner = overlaps[within] / len(self._components)
        return np.array([0, *rates[within], limit]), np.array([0, *inner, last])

    def _require(
        self, regions: Sequence[_Region], groups: Collection[str] | None, figure: str
    ) -> None:
        if not any(groups is None or region.group in groups for region in regions):
            raise ValueError(f"the {figure} needs anomalous pixels, but no mask marks any")
        if not any(one.size for one in self._normal_in(groups)):
            raise ValueError(f"the {figure} needs normal pixels, but the masks leave none")

    def _normal_in(self, groups: Collection[str] | None) -> list[_SortedScores]:
        return [
            scores for group, scores in self._normal.items() if groups is None or group in groups
        ]

    def _rates(self, scores: Scores, groups: Collection[str] | None) -> tuple[Floats, Floats]:
        """The shares of normal pixels that are above each score, and at or above it."""
        above, at_or_above, count = np.zeros(len(scores)), np.zeros(len(scores)), 0
        for normal in self._normal_in(groups):
            more_above, more_at_or_above = normal.ranks(scores)
            above += more_above
            at_or_above += more_at_or_above
            count += normal.size
        return above / count, at_or_above / count

    def _means(
        self,
        regions: Sequence[_Region],
        groups: Collection[str] | None,
        limit: float,
        value: Callable[[Floats, Floats, float], Floats],
    ) -> Iterator[float]:
        """The mean over each region of its pixels' values, which are `_area` or `_reached`."""
        if not 0 < limit <= 1:
            raise ValueError(f"the limit is {limit}; expected a false positive rate in (0, 1]")
        for batch in _batches(regions):
            scores = np.concatenate([region.scores for region in batch])
            # Asked for in order, the ranks are found in memory that was just used.
            order = np.argsort(scores)
            values = np.empty(len(scores))
            values[order] = value(*self._rates(scores[order], groups), limit)
            sizes = [region.scores.size for region in batch]
            sums = np.add.reduceat(values, np.cumsum([0, *sizes[:-1]]))
            yield from (sums / sizes).tolist()


def _area(start: Floats, end: Floats, limit: float) -> Floats:
    """The mean up to the limit of ramps from (start, 0) to (end, 1) that go on at 1."""
    covered = np.minimum(end, limit) - np.minimum(start, limit)
    width = np.where(end > start, end - start, 1)
    return (covered**2 / (2 * width) + limit - np.minimum(end, limit)) / limit


def _reached(start: Floats, end: Floats, limit: float) -> Floats:
    """The height of these ramps at the limit."""
    width = np.where(end > start, end - start, 1)
    return np.where(end > limit, (limit - start) / width, 1).clip(min=0)


@dataclass(frozen=True)
class _Region:
    """The ascending scores of a region's pixels; all of them count alike."""

    group: str
    scores: Scores


def _batches(regions: Sequence[_Region]) -> Iterator[list[_Region]]:
    """The regions in order, as many at a time as bound the memory for their pixels' ranks."""
    batch: list[_Region] = []
    pixels = 0
    for region in regions:
        batch.append(region)
        pixels += region.scores.size
        if pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


class _SortedScores:
    """Scores that are gathered in one array and sorted in place when they are first asked for."""

    def __init__(self) -> None:
        self._scores = np.empty(0, np.float32)
        self._in_order = True
        self.size = 0

    def add(self, scores: Scores) -> None:
        end = self.size + scores.size
        if end > self._scores.size:
            # In place: where memory is mapped, nothing is copied and nothing is held twice.
            self._scores.resize(max(end, int(_GROWTH * self._scores.size)), refcheck=False)
        self._scores[self.size : end] = scores
        self.size = end
        self._in_order = False

    def ranks(self, scores: Scores) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """How many are above each of the given scores, and how many at or above it."""
        own = self._ascending()
        not_above = np.searchsorted(own, scores, side="right")
        below = not_above.copy()
        # The second search is for scores that the first has found among our own.
        tied = np.flatnonzero((not_above > 0) & (own[not_above - 1] == scores)) if own.size else ()
        below[tied] = np.searchsorted(own, scores[tied], side="left")
        return self.size - not_above, self.size - below

    def highest(self, rank: int, points: int) -> Scores:
        """Scores from the highest down to that rank, evenly spaced by rank."""
        if self.size == 0:
            return np.empty(0, np.float32)
        ranks = np.linspace(0, min(rank, self.size - 1), points).astype(np.intp)
        return self._ascending()[self.size - 1 - ranks]

    def _ascending(self) -> Scores:
        scores = self._scores[: self.size]
        if not self._in_order:
            scores.sort()
            self._in_order = True
        return scores


def _as_mask(mask: NDArray[Any], scores: Scores) -> Mask:
    """Where the mask is not 0, checked."""
    values = np.asarray(mask)
    if values.dtype.kind not in "buif":
        raise TypeError(f"the mask is of {values.dtype}; expected booleans or numbers")
    if values.shape != scores.shape:
        raise ValueError(
            f"the mask has shape {values.shape}, but the anomaly map has {scores.shape}; expected "
            "the same"
        )
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("the mask has NaN; expected 0 where a pixel is normal")
    anomalous: Mask = values.astype(np.bool_, copy=False)
    if not anomalous.any():
        raise ValueError("the mask marks no pixel as anomalous")
    return anomalous


def _component_scores(scores: Scores, mask: Mask) -> Iterator[Scores]:
    """The ascending scores of each 8-connected component of the mask."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        yield np.sort(scores[place][labels[place] == label])


def _highest(scores: Scores, saturation: int) -> Scores:
    """The ascending highest scores, as many as fill the saturation area.

    The overlap of these alone, without saturation, is the saturated overlap of the region.
    """
    if not 1 <= saturation <= scores.size:
        raise ValueError(
            f"a defect of {scores.size} pixels has a saturation area of {saturation}; expected "
            "at least 1 and at most its size"
        )
    return np.sort(scores)[scores.size - saturation :].copy()
