"""What explains a score: maps that are the detector's, and a mask that loses nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from efficientad.datasets import LabelledImage
from efficientad.explanation import explain
from PIL import Image

from efficientad_ext.detector import Detector


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector.load(tiny_model)


@pytest.mark.parametrize("longest_side", [None, 90])
def test_the_maps_are_what_the_detector_says(
    detector: Detector, tiny_data: Path, longest_side: int | None
):
    image = LabelledImage(
        tiny_data / "test/hole/000.png", "hole", (tiny_data / "ground_truth/hole/000_mask.png",)
    )
    with Image.open(image.path) as file:
        size = (longest_side or file.height, longest_side or file.width)
    found = explain(detector, image, longest_side)
    expected = detector(image.path, map_size=size).map[0, 0].numpy()
    np.testing.assert_allclose(found.combined_map, expected, rtol=1e-5, atol=1e-5)
    mean = (found.local_map + found.global_map) / 2
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(found.local_map - found.global_map).max() > 0.01
    assert found.image.shape == (*size, 3)
    assert found.mask is not None
    assert found.mask.shape == size
    assert 0 < found.mask.mean() < 0.5


def test_a_mask_thinner_than_a_pixel_stays(detector: Detector, tmp_path: Path):
    random = np.random.default_rng()
    Image.fromarray(random.integers(0, 256, (400, 300, 3), dtype=np.uint8)).save(tmp_path / "i.png")
    mask = np.zeros((400, 300), np.uint8)
    mask[201, 10:290] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    image = LabelledImage(tmp_path / "i.png", "scratch", (tmp_path / "mask.png",))
    found = explain(detector, image, 40)
    assert found.image.shape == (40, 30, 3)
    assert found.mask is not None
    assert found.mask[20, 1:29].all()
    assert found.mask.sum() == 28
    whole = explain(detector, image)
    assert np.array_equal(whole.mask, mask > 0)


def test_a_mask_that_cannot_be_used_is_none(detector: Detector, tiny_data: Path, tmp_path: Path):
    path = tiny_data / "test/hole/000.png"
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (3, 3), 255).save(tmp_path / "small.png")
    for masks in ((), (tmp_path / "text.png",), (tmp_path / "small.png",)):
        assert explain(detector, LabelledImage(path, "hole", masks), 50).mask is None
