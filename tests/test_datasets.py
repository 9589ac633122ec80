from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientad.augmentation import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    augment,
    augment_penalty,
    centre_crop,
    to_gray,
)
from efficientad.datasets import (
    find_dataset,
    find_photos,
    find_test_set,
    fingerprint,
    split_validation,
)
from efficientad.loader import (
    ImageStore,
    ReplacingStore,
    Sample,
    SampleLoader,
    load_penalty_pixels,
    load_pixels,
    make_sample,
    normalize,
)
from efficientad.randomness import Purpose, generator, shuffled_index
from efficientad.run_images import RunImages, find_run_images
from PIL import Image
from torch import Tensor

from efficientad_ext import ops
from efficientad_ext.images import load_image

SIZE = (128, 128)


def write_images(folder: Path, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = [folder / f"{index}.png" for index in range(count)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return paths


def test_a_plain_folder_is_all_training_images(tmp_path: Path):
    paths = write_images(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("not an image")
    dataset = find_dataset(tmp_path)
    assert dataset.train == tuple(paths)
    assert dataset.validation == ()


def test_the_layout_of_mvtec_ad(tmp_path: Path):
    train = write_images(tmp_path / "train/good", 2)
    validation = write_images(tmp_path / "validation/good", 1)
    write_images(tmp_path / "test/good", 1)
    write_images(tmp_path / "test/crack", 2)
    write_images(tmp_path / "ground_truth/crack", 2)
    dataset = find_dataset(str(tmp_path))
    assert dataset.train == tuple(train)
    assert dataset.validation == tuple(validation)
    test = find_test_set(tmp_path)
    assert [(image.label, image.anomalous) for image in test.images] == [
        ("crack", True),
        ("crack", True),
        ("good", False),
    ]


def test_folders_that_are_no_data_set(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_dataset(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no image"):
        find_dataset(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="is a file"):
        find_dataset(file)
    (tmp_path / "train" / "good").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train/good holds no image"):
        find_dataset(tmp_path)


def test_a_folder_of_test_images_is_not_taken_for_normal_images(tmp_path: Path):
    write_images(tmp_path / "bottle/test/crack", 2)
    with pytest.raises(ValueError, match="looks like a test set"):
        find_dataset(tmp_path)


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (9, 1), (10, 1), (26, 3), (100, 10)])
def test_a_tenth_is_held_out(count, held_out):
    paths = [Path(f"{index}.png") for index in range(count)]
    training, validation = split_validation(paths, seed=4)
    assert len(validation) == held_out
    assert sorted(training + validation) == sorted(paths)
    assert (training, validation) == split_validation(paths, seed=4)


def test_the_split_depends_on_the_seed():
    paths = [Path(f"{index}.png") for index in range(100)]
    assert split_validation(paths, seed=1) != split_validation(paths, seed=2)


def test_one_image_cannot_be_split():
    with pytest.raises(ValueError, match="at least two"):
        split_validation([Path("only.png")], seed=0)


def test_fingerprint_notices_names_and_sizes_but_not_the_place(tmp_path: Path):
    first, second = write_images(tmp_path / "a", 2), write_images(tmp_path / "b", 2)
    assert fingerprint(first, tmp_path / "a") == fingerprint(second, tmp_path / "b")
    second[0].write_bytes(second[0].read_bytes() + b"x")
    assert fingerprint(first, tmp_path / "a") != fingerprint(second, tmp_path / "b")
    assert fingerprint(first[:1], tmp_path / "a") != fingerprint(first, tmp_path / "a")


def test_penalty_folder_without_images(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no image"):
        find_photos(tmp_path)


def test_training_sees_what_detection_sees(tmp_path: Path):
    path = write_images(tmp_path, 1)[0]
    expected = ops.resize_normalize(torch.from_numpy(load_image(path)), SIZE)[0]
    torch.testing.assert_close(normalize(load_pixels(path, SIZE)), expected, rtol=0, atol=1e-6)


def test_penalty_image_is_the_centre_of_twice_the_size(tmp_path: Path):
    path = write_images(tmp_path, 1)[0]
    large = load_pixels(path, (256, 280))
    found = load_penalty_pixels(path, (128, 140))
    assert torch.equal(found, large[:, 64:192, 70:210])


def test_centre_crop_of_odd_sizes():
    image = torch.arange(35.0).view(1, 5, 7)
    assert torch.equal(centre_crop(image, (3, 3)), image[:, 1:4, 2:5])


def image_in_unit_range() -> Tensor:
    return torch.rand(3, 9, 11, dtype=torch.float64)


def test_gray_is_the_weighted_sum():
    red, green, blue = image = image_in_unit_range()
    torch.testing.assert_close(to_gray(image)[0], 0.2989 * red + 0.587 * green + 0.114 * blue)


@pytest.mark.parametrize("factor", [0.0, 0.8, 1.0, 1.2])
def test_adjustments_blend_and_clamp(factor):
    image = image_in_unit_range()
    others = {
        adjust_brightness: torch.zeros_like(image),
        adjust_contrast: to_gray(image).mean().expand_as(image),
        adjust_saturation: to_gray(image).expand_as(image),
    }
    for adjust, other in others.items():
        expected = (factor * image + (1 - factor) * other).clamp(0, 1)
        torch.testing.assert_close(adjust(image, factor), expected)


def test_augmentation_is_one_of_three_within_its_range():
    image = 0.2 + 0.6 * image_in_unit_range()
    kinds = set()
    for index in range(60):
        augmented = augment(image, generator(0, Purpose.AUGMENTATION, index))
        for adjust in (adjust_brightness, adjust_contrast, adjust_saturation):
            low, high = adjust(image, 0.8), adjust(image, 1.2)
            # The change is the same multiple of the change from 0.8 to 1.2 everywhere.
            place = int((high - low).abs().argmax())
            share = (augmented - low).flatten()[place] / (high - low).flatten()[place]
            if torch.allclose(augmented, low + share * (high - low)):
                assert 0 <= share <= 1
                kinds.add(adjust)
    assert len(kinds) == 3


def test_about_three_in_ten_penalty_images_become_gray():
    image = image_in_unit_range()
    results = [
        augment_penalty(image, generator(0, Purpose.PENALTY_GRAYSCALE, index))
        for index in range(400)
    ]
    gray = sum(torch.equal(result[0], result[1]) for result in results)
    assert 85 <= gray <= 155
    assert all(torch.equal(result, image) or result.shape == image.shape for result in results)


def test_every_image_comes_once_a_round_in_a_new_order():
    rounds = [
        [shuffled_index(5, Purpose.TRAINING_ORDER, 12, 12 * number + i) for i in range(12)]
        for number in range(3)
    ]
    assert all(sorted(one) == list(range(12)) for one in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def same(one: Tensor | None, other: Tensor | None) -> bool:
    return (
        one is None and other is None if one is None or other is None else torch.equal(one, other)
    )


@pytest.mark.parametrize("penalty", ["photos", "procedural", "none"])
def test_samples_depend_on_the_step_alone(tmp_path: Path, penalty: str):
    write_images(tmp_path / "train", 5)
    write_images(tmp_path / "photos", 3, seed=1)
    chosen = tmp_path / "photos" if penalty == "photos" else penalty

    def run_images() -> RunImages:
        return find_run_images(tmp_path / "train", chosen, SIZE, seed=7)

    def samples(first: int, images: RunImages) -> list[Sample]:
        def make(step: int) -> Sample:
            return make_sample(step, 7, images.train, images.penalty)

        with SampleLoader(range(first, 12), make) as loader:
            return list(loader)

    # Another start, and no threads: the same samples.
    whole, end, images = samples(0, run_images()), samples(9, run_images()), run_images()
    single = make_sample(10, 7, images.train, images.penalty)
    assert len(whole) == 12
    assert len(end) == 3
    for one, other in zip([*whole[9:], whole[10]], [*end, single], strict=True):
        assert same(one.image, other.image)
        assert same(one.augmented, other.augmented)
        assert same(one.penalty, other.penalty)
        assert (one.penalty is None) == (penalty == "none")
    assert not torch.equal(whole[0].image, whole[1].image)
    if penalty != "none":
        assert not same(whole[0].penalty, whole[1].penalty)


def test_leaving_the_loader_early_ends_its_threads():
    with SampleLoader(range(10_000), lambda number: number) as loader:
        next(loader)
    assert loader._pool._shutdown


def test_the_cache_keeps_to_its_budget(tmp_path: Path):
    paths = write_images(tmp_path, 3)
    one_image = 3 * 128 * 128 * 4
    loads: list[Path] = []

    def load(path: Path, size: tuple[int, int]) -> Tensor:
        loads.append(path)
        return load_pixels(path, size)

    store = ImageStore(paths, SIZE, load, budget=2 * one_image)
    for _ in range(2):
        for index in range(3):
            store[index]
    assert loads == [*paths, paths[2]]
    store.keep(paths[1:])
    assert len(store) == 2
    store[1]
    store[1]
    assert loads == [*paths, paths[2], paths[2]]


def test_an_unreadable_penalty_image_is_reported_once_and_replaced(
    tmp_path: Path, warnings_logged: pytest.LogCaptureFixture
):
    paths = write_images(tmp_path, 3)
    paths[1].write_text("no image")
    store = ReplacingStore(ImageStore(paths, SIZE), "penalty")
    assert torch.equal(store[1], store[2])
    assert torch.equal(store[1], store[2])
    assert sum(str(paths[1]) in record.message for record in warnings_logged.records) == 1
    for path in paths:
        path.write_text("no image")
    with pytest.raises(ValueError, match="none of the penalty images"):
        ReplacingStore(ImageStore(paths, SIZE), "penalty")[0]
