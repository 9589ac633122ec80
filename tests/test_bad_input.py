"""Bad input from end to end: a clear sentence or a documented behaviour, and nothing lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from efficientad.cli import main
from efficientad.teacher import Teacher
from efficientad.training import TrainingConfig, train
from PIL import Image

from efficientad_ext.detector import Detector
from efficientad_ext.model_file import load_model

CONFIG = TrainingConfig("small", (128, 128), steps=1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def error_of(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    return result.stderr.strip().splitlines()[-1]


def random_image(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    random = np.random.default_rng(sum(shape))
    return random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def truncated_jpeg(path: Path) -> None:
    Image.fromarray(random_image(200, 200, 3)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def text_file(path: Path) -> None:
    path.write_text("this is no image")


def empty_file(path: Path) -> None:
    path.touch()


BAD_FILES = {"text.png": text_file, "truncated.jpg": truncated_jpeg, "empty.png": empty_file}


@pytest.mark.parametrize("name", BAD_FILES)
def test_an_unreadable_image_in_prediction(tmp_path: Path, tiny_model: Path, name: str):
    path = tmp_path / name
    BAD_FILES[name](path)
    result = run("predict", tiny_model, path)
    assert error_of(result) == "Error: 1 of 1 images could not be read"
    assert str(path) in result.stderr


def test_unreadable_images_in_training_are_reported_and_left_out(
    tmp_path: Path, tiny_teacher: Teacher, warnings_logged: pytest.LogCaptureFixture
):
    data = tmp_path / "data"
    data.mkdir()
    for index in range(4):
        Image.fromarray(random_image(40 + index, 50, 3)).save(data / f"{index}.png")
    for name, write in BAD_FILES.items():
        write(data / name)
    model = train(data, tmp_path / "model.safetensors", tiny_teacher, CONFIG)
    assert model.training["training images"] + model.training["validation images"] == 4
    for name in BAD_FILES:
        assert str(data / name) in warnings_logged.text


def test_only_unreadable_images(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    text_file(data / "text.png")
    result = run("train", data, "-o", tmp_path / "m.safetensors", "--teacher", "random")
    assert "none of the training images" in error_of(result)


def test_an_empty_folder(tmp_path: Path, tiny_model: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run("train", empty, "-o", tmp_path / "m.safetensors", "--teacher", "random")
    assert "holds no image" in error_of(result)
    assert "holds no image" in error_of(run("predict", tiny_model, empty))
    assert "has no test images" in error_of(run("evaluate", tiny_model, empty))


@pytest.mark.parametrize(
    "image",
    [
        random_image(1, 1, 3),
        random_image(30, 40, dtype=np.uint16),
        random_image(30, 40, 3, dtype=np.uint16),
        random_image(30, 40, 4),
    ],
    ids=["1x1", "16-bit gray", "16-bit colour", "RGBA"],
)
def test_unusual_images_are_scored_like_any_other(
    tmp_path: Path, tiny_model: Path, image: np.ndarray
):
    """A 1x1 image is resized like any other; 16 bits are scaled; alpha is composited on white."""
    path = tmp_path / ("image.tif" if image.dtype == np.uint16 else "image.png")
    if image.dtype == np.uint16:
        tifffile.imwrite(path, image)
    else:
        Image.fromarray(image).save(path)
    result = run(
        "predict", tiny_model, path, "--maps", tmp_path / "maps", "--overlays", tmp_path / "over"
    )
    assert result.exit_code == 0, result.output
    scaled = torch.from_numpy(image.astype(np.float64) / np.iinfo(image.dtype).max)
    pixels = scaled.reshape(*image.shape[:2], -1).movedim(-1, 0)
    if len(pixels) == 4:
        pixels = pixels[:3] * pixels[3:] + 1 - pixels[3:]
    expected = float(Detector.load(tiny_model)(pixels.float()).score[0])
    score = float(result.stdout.split()[1])
    assert score == pytest.approx(expected, abs=2e-4, rel=1e-3)
    with Image.open(tmp_path / "maps" / "image.tiff") as tiff:
        assert tiff.size == (image.shape[1], image.shape[0])


def test_training_on_images_of_one_pixel_is_refused(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    for index in range(4):
        Image.fromarray(np.full((1, 1, 3), 90, np.uint8)).save(data / f"{index}.png")
    result = run(
        "train", data, "-o", tmp_path / "m.safetensors", "--teacher", "random",
        "--image-size", "128x128", "--steps", 1,
    )  # fmt: skip
    assert "same features at every place" in error_of(result)


def test_a_single_training_image(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(random_image(30, 30, 3)).save(data / "only.png")
    result = run("train", data, "-o", tmp_path / "m.safetensors", "--teacher", "random")
    assert "at least two readable images" in error_of(result)


def test_a_validation_set_of_one_image_warns(
    tmp_path: Path, tiny_teacher: Teacher, warnings_logged: pytest.LogCaptureFixture
):
    data = tmp_path / "data"
    data.mkdir()
    for index in range(2):
        Image.fromarray(random_image(60 + index, 60, 3)).save(data / f"{index}.png")
    model = train(data, tmp_path / "model.safetensors", tiny_teacher, CONFIG, puad=False)
    assert model.training["validation images"] == 1
    assert "1 validation image is too little" in warnings_logged.text


def test_a_training_set_too_small_for_puad(tmp_path: Path, tiny_teacher: Teacher):
    data = tmp_path / "data"
    data.mkdir()
    for index in range(3):
        Image.fromarray(random_image(60 + index, 60, 3)).save(data / f"{index}.png")
    with pytest.raises(ValueError, match=r"at least 3 normal images, but there is 2; .*--no-puad"):
        train(data, tmp_path / "model.safetensors", tiny_teacher, CONFIG)


def test_nan_in_an_image(tiny_model: Path):
    image = torch.rand(3, 130, 140)
    image[1, 70, 80] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        Detector.load(tiny_model)(image)


def test_a_model_file_cut_in_half(tmp_path: Path, tiny_model: Path, tiny_data: Path):
    half = tmp_path / "half.safetensors"
    content = tiny_model.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    for arguments in (["info", half], ["predict", half, tiny_data], ["evaluate", half, tiny_data]):
        assert "half.safetensors" in error_of(run(*arguments))


def test_a_model_file_of_a_newer_version(tmp_path: Path, tiny_model: Path):
    content = tiny_model.read_bytes()
    version = rb"\"format_version\": 3"
    assert content.count(version) == 1
    newer = tmp_path / "newer.safetensors"
    newer.write_bytes(content.replace(version, rb"\"format_version\": 9"))
    assert "newer version" in error_of(run("info", newer))


def test_a_full_disk_keeps_the_previous_model_and_the_training(
    tmp_path: Path,
    tiny_data: Path,
    tiny_model: Path,
    tiny_teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
):
    output = tmp_path / "model.safetensors"
    output.write_bytes(tiny_model.read_bytes())
    replace = os.replace

    def full(source: object, target: object) -> None:
        if Path(str(target)).name == output.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            train(tiny_data, output, tiny_teacher, CONFIG)
    assert output.read_bytes() == tiny_model.read_bytes()
    checkpoint = tmp_path / "model.safetensors.checkpoint"
    assert sorted(tmp_path.iterdir()) == [output, checkpoint]
    train(tiny_data, output, tiny_teacher, CONFIG, resume=True)
    assert load_model(output).training["steps"] == 1
    assert not checkpoint.exists()
