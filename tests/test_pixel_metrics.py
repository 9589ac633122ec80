"""Pixel metrics against their definitions, computed in float64 from every distinct threshold."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from efficientad.metrics import PixelScores, pixels
from scipy import ndimage
from sklearn.metrics import roc_auc_score


@dataclass(frozen=True)
class Image:
    map: np.ndarray
    mask: np.ndarray | None = None
    defects: Sequence[tuple[np.ndarray, int]] = field(default_factory=list)
    group: str = "good"


def random_images(decimals: int) -> list[Image]:
    """Images of several sizes; few decimals give many ties among and between the classes."""
    random = np.random.default_rng()
    images = []
    for number in range(6):
        shape = tuple(random.integers(9, 24, 2))
        values = random.normal(size=shape).round(decimals).astype(np.float32)
        if number < 2:
            images.append(Image(values))
            continue
        defects = []
        for _ in range(random.integers(1, 4)):
            defect = np.zeros(shape, bool)
            for _ in range(random.integers(1, 4)):  # of one or more pieces
                y, x = random.integers(0, 6, 2)
                defect[y : y + random.integers(1, 6), x : x + random.integers(1, 6)] = True
            defects.append((defect, int(random.integers(1, defect.sum() + 1))))
        mask = np.any([defect for defect, _ in defects], axis=0)
        values[mask] += np.float32(random.integers(0, 3))
        group = "logical" if number % 2 else "structural"
        images.append(Image(values, mask, defects, group))
    return images


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "images" in request.fixturenames:
        monkeypatch.setattr(pixels, "_BATCH_PIXELS", 40)


@pytest.fixture(params=[0, 1, 6], ids=["many ties", "some ties", "no ties"])
def images(request: pytest.FixtureRequest) -> list[Image]:
    return random_images(request.param)


def gather(images: Iterable[Image]) -> PixelScores:
    scores = PixelScores()
    for one in images:
        scores.add(one.map, one.mask, one.defects, one.group)
    return scores


def figures(scores: PixelScores) -> list[float]:
    logical = scores.au_spro(0.3, {"good", "logical"})
    return [scores.pixel_auroc(), scores.au_pro(), scores.au_spro(0.3), logical]


def normal_pixels(images: Iterable[Image]) -> np.ndarray:
    return np.concatenate([one.map[~mask_of(one)] for one in images])


def mask_of(image: Image) -> np.ndarray:
    return np.zeros(image.map.shape, bool) if image.mask is None else image.mask


def curve_by_definition(
    images: Sequence[Image], regions: Sequence[tuple[np.ndarray, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """False positive rate and mean overlap at every distinct score; regions with saturations."""
    normal = normal_pixels(images)
    thresholds = np.unique(np.concatenate([one.map.ravel() for one in images]))[::-1]
    x, y = [0.0], [0.0]
    for threshold in thresholds:
        overlaps = [min((scores >= threshold).sum() / area, 1.0) for scores, area in regions]
        x.append(float((normal >= threshold).mean()))
        y.append(float(np.mean(overlaps)))
    return np.array(x), np.array(y)


def area_by_definition(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """The trapezoid rule up to the limit, where the curve is interpolated."""
    inside = x <= limit
    if inside.all():
        return float(np.trapezoid(y, x)) / limit
    last = np.flatnonzero(inside)[-1]
    slope = (y[last + 1] - y[last]) / (x[last + 1] - x[last])
    at_limit = y[last] + slope * (limit - x[last])
    return float(np.trapezoid([*y[inside], at_limit], [*x[inside], limit])) / limit


def components(images: Iterable[Image]) -> list[tuple[np.ndarray, int]]:
    found = []
    for one in images:
        labels, count = ndimage.label(mask_of(one), structure=[[1, 1, 1]] * 3)
        for label in range(1, count + 1):
            found.append((one.map[labels == label], int((labels == label).sum())))
    return found


def annotated(images: Iterable[Image]) -> list[tuple[np.ndarray, int]]:
    return [(one.map[defect], area) for one in images for defect, area in one.defects]


def test_pixel_auroc(images: list[Image]):
    truth = np.concatenate([mask_of(one).ravel() for one in images])
    expected = roc_auc_score(truth, np.concatenate([one.map.ravel() for one in images]))
    assert gather(images).pixel_auroc() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("limit", [0.01, 0.3, 0.77, 1.0])
def test_au_pro(images: list[Image], limit: float):
    x, y = curve_by_definition(images, components(images))
    expected = area_by_definition(x, y, limit)
    assert gather(images).au_pro(limit) == pytest.approx(expected, abs=1e-12)


def test_components_are_8_connected():
    diagonal = np.eye(4, dtype=bool)
    apart = np.zeros((4, 4), bool)
    apart[0, 0] = apart[3, 3] = True
    values = np.random.default_rng().permutation(16).reshape(4, 4).astype(np.float32)
    values[0, 0] = 100  # found before any normal pixel
    values[~diagonal] += 20  # all before the rest
    for mask, expected in ((diagonal, 1 / 4), (apart, 1 / 2)):
        assert gather([Image(values, mask)]).au_pro(0.5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize(
    "groups", [None, {"good", "logical"}, {"good", "structural"}], ids=["all", "logical", "struct."]
)
def test_au_spro_of_all_and_of_groups(images: list[Image], limit: float, groups: set[str] | None):
    chosen = [one for one in images if groups is None or one.group in groups]
    x, y = curve_by_definition(chosen, annotated(chosen))
    expected = area_by_definition(x, y, limit)
    assert gather(images).au_spro(limit, groups) == pytest.approx(expected, abs=1e-12)


def test_au_spro_without_saturation_is_au_pro():
    values = np.random.default_rng().normal(size=(20, 20)).astype(np.float32)
    mask = np.zeros((20, 20), bool)
    mask[3:9, 4:8] = True
    scores = gather([Image(values, mask, [(mask, int(mask.sum()))])])
    assert scores.au_spro(0.3) == pytest.approx(scores.au_pro(0.3), abs=1e-15)


@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_the_points_of_the_pro_curve_lie_on_it(images: list[Image], limit: float):
    x, y = curve_by_definition(images, components(images))
    points = set(zip(x.round(12), y.round(12), strict=True))
    found_x, found_y = gather(images).pro_curve(limit, points=50)
    assert set(zip(found_x[:-1].round(12), found_y[:-1].round(12), strict=True)) <= points
    assert (found_x[0], found_y[0]) == (0, 0)
    assert (np.diff(found_x) >= 0).all()
    assert (np.diff(found_y) >= -1e-12).all()
    assert found_x[-1] == limit
    assert found_y[-1] == pytest.approx(height_by_definition(x, y, limit), abs=1e-12)


def height_by_definition(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Between the last point up to the limit and the first one beyond it."""
    last = np.flatnonzero(x <= limit)[-1]
    return float(np.interp(limit, x[last : last + 2], y[last : last + 2]))


@pytest.mark.parametrize("limit", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_au_pro_is_the_area_under_the_pro_curve_of_tied_scores(levels: int, limit: float):
    """Pixels of the same score are reported together, so the curve is straight between scores."""
    random = np.random.default_rng()
    images = [
        Image(random.integers(levels, size=one.map.shape), one.mask) for one in random_images(0)
    ]
    x, y = curve_by_definition(images, components(images))
    scores = gather(images)
    expected = area_by_definition(x, y, limit)
    assert scores.au_pro(limit) == pytest.approx(expected, abs=1e-12)
    found_x, found_y = scores.pro_curve(limit, points=10**4)
    assert np.trapezoid(found_y, found_x) / limit == pytest.approx(expected, abs=1e-12)


def test_images_of_one_score_have_a_straight_pro_curve():
    mask = np.eye(5, dtype=bool)
    scores = gather([Image(np.full((5, 5), 0.7), mask)])
    x, y = scores.pro_curve()
    assert (x.tolist(), y.tolist()) == ([0, 0, 0.3], [0, 0, pytest.approx(0.3)])
    assert scores.au_pro() == pytest.approx(0.15)


def test_the_pro_curve_of_groups_of_unlike_size():
    """The highest scores may all be in a small group."""
    random = np.random.default_rng()
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    high, low = random.random((6, 6)) + 1, random.random((20, 20))
    images = [Image(high, mask, group="small"), Image(low, group="large")]
    x, y = curve_by_definition(images, components(images))
    found_x, found_y = gather(images).pro_curve(0.05, points=1000)
    area = np.trapezoid(found_y, found_x) / 0.05
    assert area == pytest.approx(area_by_definition(x, y, 0.05), abs=1e-12)


def test_the_order_of_images_does_not_matter(images: list[Image]):
    one, other = gather(images), gather(images[::-1])
    assert one.au_pro() == pytest.approx(other.au_pro(), abs=1e-14)
    assert one.pixel_auroc() == pytest.approx(other.pixel_auroc(), abs=1e-14)


def test_images_may_follow_a_figure(images: list[Image]):
    scores = gather(images[:4])
    before = scores.au_pro()
    for one in images[4:]:
        scores.add(one.map, one.mask, one.defects, one.group)
    assert scores.au_pro() == gather(images).au_pro()
    assert before == gather(images[:4]).au_pro()


def test_bad_maps_and_masks():
    values = np.random.default_rng().normal(size=(5, 6))
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:4] = True
    scores = PixelScores()
    with pytest.raises(ValueError, match="marks no pixel"):
        scores.add(values, ~np.ones((5, 6), bool))
    with pytest.raises(ValueError, match=r"shape \(6, 5\)"):
        scores.add(values, mask.T)
    for saturation in (0, 5):
        with pytest.raises(ValueError, match=f"saturation area of {saturation}"):
            scores.add(values, mask, [(mask, saturation)])
    for narrower in (None, np.eye(5, 6, dtype=bool)):
        with pytest.raises(ValueError, match="a defect marks pixels that"):
            scores.add(values, narrower, [(mask, 1)])
    with pytest.raises(TypeError, match="mask is of <U5; expected booleans or numbers"):
        scores.add(values, mask.astype(str))
    with pytest.raises(ValueError, match="mask has NaN; expected 0 where"):
        scores.add(values, np.where(mask, np.nan, 0))
    with pytest.raises(ValueError, match=r"map has shape \(1, 5, 6\); expected \(H, W\)"):
        scores.add(values[None], mask[None])
    values[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        scores.add(values, mask)
    # None of them has left anything behind.
    with pytest.raises(ValueError, match="no mask marks any"):
        scores.au_pro()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_masks_of_numbers(images: list[Image], dtype: type):
    expected, actual = gather(images), PixelScores()
    for one in images:
        mask = None if one.mask is None else one.mask.astype(dtype) * dtype(255)
        defects = [(defect.astype(dtype), area) for defect, area in one.defects]
        actual.add(one.map, mask, defects, one.group)
    assert figures(actual) == figures(expected)


def test_a_refused_image_leaves_the_figures_as_they_are(images: list[Image]):
    scores = gather(images)
    before = figures(scores)
    values, mask, defects, group = images[-1].map, images[-1].mask, images[-1].defects, "logical"
    refused = [
        (values, mask.astype(str), defects, group),
        (values, ~np.ones_like(mask), defects, group),
        (values, mask, [*defects, (mask, 0)], group),
        (values, mask, [*defects, (mask, "all")], group),
        (values, mask, defects, ["unhashable"]),
        (values[None], mask[None], [(defect[None], area) for defect, area in defects], group),
    ]
    for arguments in refused:
        with pytest.raises((TypeError, ValueError)):
            scores.add(*arguments)
        assert figures(scores) == before


def test_an_image_for_which_there_is_no_memory(images: list[Image], monkeypatch):
    scores = gather(images)
    before = figures(scores)

    def no_memory(*_arguments):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(pixels._SortedScores, "add", no_memory)
        with pytest.raises(MemoryError):
            scores.add(images[-1].map, images[-1].mask, images[-1].defects)
    assert figures(scores) == before


def test_figures_that_need_what_is_not_there():
    values = np.random.default_rng().normal(size=(5, 6))
    everywhere = np.ones((5, 6), bool)
    with pytest.raises(ValueError, match="the masks leave none"):
        gather([Image(values, everywhere)]).pixel_auroc()
    only_normal = gather([Image(values)])
    for figure in (only_normal.pixel_auroc, only_normal.au_pro, only_normal.pro_curve):
        with pytest.raises(ValueError, match="no mask marks any"):
            figure()
    mask = np.eye(5, 6, dtype=bool)
    without_defects = gather([Image(values, mask)])
    with pytest.raises(ValueError, match="AU-sPRO needs anomalous pixels"):
        without_defects.au_spro(0.05)
    with pytest.raises(ValueError, match="limit is 0"):
        without_defects.au_pro(0.0)


def test_memory_is_little_more_than_the_pixels():
    random = np.random.default_rng()
    scores = PixelScores()
    mask = np.zeros((512, 512), bool)
    mask[100:120, 300:350] = True
    count = 0
    tracemalloc.start()
    try:
        for _ in range(40):
            scores.add(random.normal(size=mask.shape).astype(np.float32), mask)
            count += mask.size
        scores.pixel_auroc()
        scores.au_pro()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.4 * 4 * count
