"""The layouts of data sets, made small, with what is odd about real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from efficientad.datasets import (
    LabelledImage,
    LabelledSet,
    Saturation,
    detect_format,
    find_dataset,
    find_test_set,
    fingerprint,
    read_ground_truth,
)
from PIL import Image

SIZE = (12, 10)  # height, width


def write(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng().integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path: Path, value: int = 255, dtype: type = np.uint8) -> np.ndarray:
    """A random mask of a single value, as a file and as booleans."""
    random = np.random.default_rng()
    mask = random.random(SIZE) < 0.2
    mask[random.integers(SIZE[0]), random.integers(SIZE[1])] = True
    write(path, (mask * value).astype(dtype))
    return mask


def make_mvtec(root: Path) -> Path:
    for name in ("train/good/0.png", "train/good/1.PNG", "test/good/0.png"):
        write(root / name)
    for name in ("0.png", "1.bmp", "two words.jpg", "v1.2.tif"):
        write(root / "test/crack" / name)
        write_mask(root / "ground_truth/crack" / f"{Path(name).stem}_mask.png")
    return root


def by_name(test_set: LabelledSet) -> dict[str, list[str]]:
    return {
        f"{image.label}/{image.path.name}": [mask.name for mask in image.masks]
        for image in test_set.images
    }


def test_mvtec_ad_with_mixed_suffixes_and_a_space(tmp_path: Path):
    root = make_mvtec(tmp_path / "bottle")
    assert detect_format(root) == "mvtec_ad"
    test_set = find_test_set(root)
    assert (test_set.category, test_set.format) == ("bottle", "mvtec_ad")
    assert by_name(test_set) == {
        "crack/0.png": ["0_mask.png"],
        "crack/1.bmp": ["1_mask.png"],
        "crack/two words.jpg": ["two words_mask.png"],
        "crack/v1.2.tif": ["v1.2_mask.png"],
        "good/0.png": [],
    }
    assert test_set.has_masks
    dataset = find_dataset(root)
    assert [path.name for path in dataset.train] == ["0.png", "1.PNG"]
    assert dataset.validation == ()


def test_missing_and_stray_masks(tmp_path: Path, warnings_logged: pytest.LogCaptureFixture):
    root = make_mvtec(tmp_path / "bottle")
    (root / "ground_truth/crack/0_mask.png").unlink()
    write_mask(root / "ground_truth/crack/99_mask.png")
    found = by_name(find_test_set(root))
    assert found["crack/0.png"] == []
    assert found["crack/1.bmp"] == ["1_mask.png"]
    [record] = warnings_logged.records
    assert "1 masks in" in record.getMessage()
    assert record.getMessage().endswith("99_mask.png")


def test_masks_without_suffix_in_a_folder_and_in_subfolders(tmp_path: Path):
    root = tmp_path / "part"
    for name in ("same.png", "folder.png", "camera 1/a.png"):
        write(root / "test/dent" / name)
    write_mask(root / "ground_truth/dent/same.tif")
    for number in range(3):
        write_mask(root / f"ground_truth/dent/folder/{number:03}.png")
    write_mask(root / "ground_truth/dent/camera 1/a_mask.png")
    assert by_name(find_test_set(root)) == {
        "dent/same.png": ["same.tif"],
        "dent/folder.png": ["000.png", "001.png", "002.png"],
        "dent/a.png": ["a_mask.png"],
    }


def test_without_any_mask(tmp_path: Path):
    for name in ("test/good/0.png", "test/dent/0.png"):
        write(tmp_path / name)
    assert not find_test_set(tmp_path).has_masks


def make_loco(root: Path) -> Path:
    for name in ("train/good/0.png", "validation/good/7.png", "test/good/0.png"):
        write(root / name)
    write(root / "test/logical_anomalies/000.png")
    write(root / "test/structural_anomalies/000.png")
    entries = [
        {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 5,
         "relative_saturation": False},
        {"defect_name": "damage", "pixel_value": 254, "saturation_threshold": 0.5,
         "relative_saturation": True},
    ]  # fmt: skip
    (root / "defects_config.json").write_text(json.dumps(entries))
    return root


def test_mvtec_loco_has_masks_of_several_defects_and_their_saturations(tmp_path: Path):
    root = make_loco(tmp_path / "juice_bottle")
    masks = root / "ground_truth/logical_anomalies/000"
    missing, damage = write_mask(masks / "000.png", 255), write_mask(masks / "001.png", 254)
    assert detect_format(root) == "mvtec_loco"
    assert [path.name for path in find_dataset(root).validation] == ["7.png"]
    test_set = find_test_set(root)
    assert test_set.saturations == {255: Saturation(5, False), 254: Saturation(0.5, True)}
    logical = next(image for image in test_set.images if image.label == "logical_anomalies")
    truth = read_ground_truth(logical, SIZE, test_set.saturations)
    assert np.array_equal(truth.mask, missing | damage)
    for (mask, area), expected, expected_area in zip(
        truth.defects,
        (missing, damage),
        (min(5, missing.sum()), max(1, damage.sum() // 2)),
        strict=True,
    ):
        assert np.array_equal(mask, expected)
        assert area == expected_area


def test_mvtec_loco_without_its_list_of_defects(tmp_path: Path):
    root = make_loco(tmp_path)
    (root / "defects_config.json").unlink()
    test_set = find_test_set(root)
    assert (test_set.format, test_set.saturations) == ("mvtec_loco", None)


@pytest.mark.parametrize(
    "text",
    ["no json", "[1]", '[{"pixel_value": 255}]',
     '[{"pixel_value": 255, "saturation_threshold": 2.0, "relative_saturation": true}]'],
)  # fmt: skip
def test_a_damaged_list_of_defects_is_one_sentence(tmp_path: Path, text: str):
    root = make_loco(tmp_path)
    (root / "defects_config.json").write_text(text)
    with pytest.raises(ValueError, match="is not a list of defects with pixel_value"):
        find_test_set(root)


def make_visa(root: Path) -> Path:
    lines = ["object,split,label,image,mask"]
    for category in ("candle", "pcb1"):
        for split, label, name, mask in (
            ("train", "normal", "Normal/0.JPG", ""),
            ("train", "normal", "Normal/1.JPG", ""),
            ("test", "normal", "Normal/2.JPG", ""),
            ("test", "anomaly", "Anomaly/0.JPG", "Anomaly/0.png"),
        ):
            write(root / category / "Data/Images" / name)
            if mask:
                write_mask(root / category / "Data/Masks" / mask, value=1)
                mask = f"{category}/Data/Masks/{mask}"
            lines.append(f"{category},{split},{label},{category}/Data/Images/{name},{mask}")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines) + "\n")
    return root / "candle"


def test_visa_follows_its_list(tmp_path: Path):
    root = make_visa(tmp_path)
    assert detect_format(root) == "visa"
    images = root / "Data/Images/Normal"
    assert find_dataset(root).train == (images / "0.JPG", images / "1.JPG")
    test_set = find_test_set(root)
    assert (test_set.category, test_set.format) == ("candle", "visa")
    assert by_name(test_set) == {"anomaly/0.JPG": ["0.png"], "good/2.JPG": []}
    assert read_ground_truth(test_set.images[0], SIZE).mask.any()


@pytest.mark.parametrize("given", ["candle", ".", "../candle"])
def test_visa_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str):
    root = make_visa(tmp_path)
    expected = fingerprint(find_dataset(root).train, root)
    monkeypatch.chdir(tmp_path if given == "candle" else root)
    dataset = find_dataset(given)
    assert all(path.is_file() for path in dataset.train)
    assert fingerprint(dataset.train, Path(given)) == expected


def test_visa_whose_list_leads_elsewhere(tmp_path: Path):
    root = make_visa(tmp_path)
    file = tmp_path / "split_csv/1cls.csv"
    file.write_text(file.read_text().replace("candle/Data/Images", "pcb1/Data/Images"))
    with pytest.raises(ValueError, match="expected a path that begins with candle/"):
        find_dataset(root)


def test_visa_without_its_list_or_without_the_scenario(tmp_path: Path):
    root = make_visa(tmp_path)
    other = root.rename(tmp_path / "my candles")
    with pytest.raises(ValueError, match="lists no image of my candles for the split train"):
        find_dataset(other)
    (tmp_path / "split_csv/1cls.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"1cls.csv does not exist"):
        find_test_set(other)


def make_list(root: Path, *rows: str) -> Path:
    (root / "images.csv").write_text(
        "\ufeffimage,split,label,mask\n" + "\n".join(rows) + "\n", encoding="utf-8"
    )
    return root


def test_a_folder_with_a_list(tmp_path: Path):
    make_list(
        tmp_path,
        "b.png,train,good,",
        "a.png,train,good,",
        "c.png,validation,good,",
        "x/d.png,test,good,",
        '"e, f.png", test, dent, m/1.png; m/2.png',
    )
    assert detect_format(tmp_path) == "folder"
    dataset = find_dataset(tmp_path)
    assert [path.name for path in dataset.train] == ["a.png", "b.png"]
    assert [path.name for path in dataset.validation] == ["c.png"]
    assert by_name(find_test_set(tmp_path)) == {
        "dent/e, f.png": ["1.png", "2.png"],
        "good/d.png": [],
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,tset,good,", "the split 'tset' for a.png"),
        ("a.png,train,dent,", "the label 'dent' for a.png in the split train; expected good"),
        ("a.png,test,,", "the label '' for a.png"),
        ("a.png,test,../dent,", "the label '../dent' for a.png; expected a name that a folder"),
        ("a.png,test", "line 2: there are too few values"),
        ("a.png,train,good,\na.png,test,good,", "lists a.png more than once"),
        ("a.png,test,good,", "no image for the split train"),
    ],
)
def test_a_bad_list_is_one_sentence(tmp_path: Path, row: str, message: str):
    with pytest.raises(ValueError, match=message):
        find_dataset(make_list(tmp_path, row))


def test_a_list_in_another_encoding(tmp_path: Path):
    row = "image,split,label,mask\nß.png,train,good,\n"
    (tmp_path / "images.csv").write_text(row, encoding="latin-1")
    with pytest.raises(ValueError, match=r"images\.csv is not text in UTF-8 .*; save it as such"):
        find_dataset(tmp_path)


def test_a_list_of_files_elsewhere(tmp_path: Path):
    elsewhere = write(tmp_path / "elsewhere/a.png")
    (tmp_path / "data").mkdir()
    root = make_list(tmp_path / "data", f"{elsewhere},train,good,")
    found = find_dataset(root).train
    assert found == (elsewhere,)
    assert fingerprint(found, root) != fingerprint(found, tmp_path)


def test_good_is_good_in_capitals_too(tmp_path: Path):
    write(tmp_path / "folders/test/Good/0.png")
    write(tmp_path / "folders/test/dent/0.png")
    (tmp_path / "list").mkdir()
    make_list(tmp_path / "list", "0.png,test,GOOD,", "1.png,test,Dent,", "2.png,train,Good,")
    for name, labels in (("folders", ["good", "dent"]), ("list", ["Dent", "good"])):
        images = find_test_set(tmp_path / name).images
        assert sorted(image.label for image in images) == sorted(labels)


def test_folders_that_are_all_taken_for_good_are_told(
    tmp_path: Path, warnings_logged: pytest.LogCaptureFixture
):
    for folder in ("OK", "NG"):
        write(tmp_path / folder / "0.png")
    assert len(find_dataset(tmp_path).train) == 2
    assert f"the 2 folders in {tmp_path} are taken for good ones: NG, OK" in warnings_logged.text


def test_file_names_may_be_any_bytes(tmp_path: Path):
    file = write(tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    assert find_dataset(tmp_path).train == (file,)
    assert len(fingerprint((file,), tmp_path)) == 16


def test_a_list_without_a_column(tmp_path: Path):
    (tmp_path / "images.csv").write_text("image,split,mask\n")
    with pytest.raises(ValueError, match="no column 'label'"):
        find_dataset(tmp_path)


def test_labelled_subfolders_are_a_test_set_and_nothing_to_train_on(tmp_path: Path):
    write(tmp_path / "good/0.png")
    write(tmp_path / "dent/0.jpg")
    write_mask(tmp_path / "ground_truth/dent/0.png")
    assert by_name(find_test_set(tmp_path)) == {"dent/0.jpg": ["0.png"], "good/0.png": []}
    with pytest.raises(ValueError, match="looks like a test set"):
        find_dataset(tmp_path)
    (tmp_path / "ground_truth/dent/0.png").unlink()
    for folder in ("ground_truth/dent", "ground_truth"):
        (tmp_path / folder).rmdir()
    with pytest.raises(ValueError, match="dent beside good"):
        find_dataset(tmp_path)
    (tmp_path / "good").rename(tmp_path / "Good")
    with pytest.raises(ValueError, match="dent beside Good"):
        find_dataset(tmp_path)
    (tmp_path / "Good").rename(tmp_path / "good")
    assert len(find_dataset(tmp_path / "good").train) == 1


@pytest.mark.parametrize("name", ["test", "Test", "ground_truth"])
def test_a_test_set_behind_a_link_is_nothing_to_train_on(tmp_path: Path, name: str):
    write(tmp_path / "data/train/good/0.png")
    write(tmp_path / f"data/{name}/dent/0.png")
    root = tmp_path / "linked"
    root.mkdir()
    (root / "part").symlink_to(tmp_path / "data")
    with pytest.raises(ValueError, match=rf"part/{name} looks like a test set"):
        find_dataset(root)
    (tmp_path / f"data/{name}").rename(tmp_path / "data/other")
    assert len(find_dataset(root).train) == 2


def test_test_images_are_never_for_training(tmp_path: Path):
    for root in (make_mvtec(tmp_path / "ad"), make_loco(tmp_path / "loco"), make_visa(tmp_path)):
        dataset = find_dataset(root)
        normal = {*dataset.train, *dataset.validation}
        assert normal
        assert normal.isdisjoint(image.path for image in find_test_set(root).images)


def test_the_layout_may_be_named(tmp_path: Path):
    root = make_mvtec(tmp_path / "bottle")
    write(root / "good/5.png")
    assert by_name(find_test_set(root, "folder")).keys() == {
        "good/5.png", "test/0.png", "test/1.bmp", "test/two words.jpg", "test/v1.2.tif",
        "train/0.png", "train/1.PNG",
    }  # fmt: skip
    assert find_test_set(root, "mvtec_loco").format == "mvtec_loco"


@pytest.mark.parametrize(
    ("name", "value", "dtype"),
    [
        ("m.png", 255, np.uint8),
        ("m.png", 1, np.uint8),
        ("m.png", 1, np.uint16),
        ("m.png", 65535, np.uint16),
        ("m.tif", 300, np.uint16),
        ("m.png", True, bool),
        ("m.bmp", 7, np.uint8),
    ],
)
def test_kinds_of_masks(tmp_path: Path, name: str, value: int, dtype: type):
    image = LabelledImage(tmp_path / "i.png", "dent", (tmp_path / name,))
    expected = write_mask(tmp_path / name, value, dtype)
    truth = read_ground_truth(image, SIZE)
    assert np.array_equal(truth.mask, expected)
    assert truth.defects == ()


def test_masks_with_colours_palettes_and_alpha(tmp_path: Path):
    mask = write_mask(tmp_path / "gray.png")
    palette = Image.fromarray(mask.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "palette.png")
    green = np.zeros((*SIZE, 3), np.uint8)
    green[mask, 1] = 200
    write(tmp_path / "colour.png", green)
    write(tmp_path / "alpha.png", np.dstack([green, np.full(SIZE, 255, np.uint8)]))
    for name in ("palette.png", "colour.png", "alpha.png"):
        image = LabelledImage(tmp_path / "i.png", "dent", (tmp_path / name,))
        assert np.array_equal(read_ground_truth(image, SIZE).mask, mask), name


def test_a_jpeg_mask_is_not_widened_by_its_compression(tmp_path: Path):
    mask = np.zeros((40, 48), bool)
    mask[11:27, 9:31] = True
    path = write(tmp_path / "m.jpg", (mask * 255).astype(np.uint8))
    with Image.open(path) as stored:
        assert (np.asarray(stored)[~mask] > 0).any()
    truth = read_ground_truth(LabelledImage(tmp_path / "i.png", "dent", (path,)), mask.shape)
    assert np.array_equal(truth.mask, mask)


def test_masks_that_cannot_be_used(tmp_path: Path):
    def read(name: str, saturations: dict[int, Saturation] | None = None) -> None:
        image = LabelledImage(tmp_path / "i.png", "dent", (tmp_path / name,))
        read_ground_truth(image, SIZE, saturations)

    write(tmp_path / "large.png", np.full((24, 10), 255, np.uint8))
    with pytest.raises(ValueError, match=r"large.png has 10x24 pixels.*has 10x12"):
        read("large.png")
    with pytest.raises(FileNotFoundError, match=r"none.png"):
        read("none.png")
    values = np.zeros(SIZE, np.uint8)
    values[0, :2] = 3, 4
    write(tmp_path / "two.png", values)
    with pytest.raises(ValueError, match="values 3, 4 beside 0"):
        read("two.png", {3: Saturation(1, False), 4: Saturation(1, False)})
    write_mask(tmp_path / "unlisted.png", 9)
    with pytest.raises(ValueError, match="values 9 beside 0"):
        read("unlisted.png", {3: Saturation(1, False)})


def test_masks_that_mark_nothing(tmp_path: Path):
    black = write(tmp_path / "black.png", np.zeros(SIZE, np.uint8))
    mask = write_mask(tmp_path / "mask.png")
    path = tmp_path / "i.png"
    for masks in ((), (black,)):
        assert read_ground_truth(LabelledImage(path, "dent", masks), SIZE) is None
    both = read_ground_truth(LabelledImage(path, "dent", (black, tmp_path / "mask.png")), SIZE)
    assert both is not None
    assert np.array_equal(both.mask, mask)


def test_saturation_areas():
    assert Saturation(100, relative=False).area(40) == 40
    assert Saturation(100, relative=False).area(400) == 100
    assert Saturation(0.3, relative=True).area(101) == 30
    assert Saturation(0.3, relative=True).area(2) == 1
