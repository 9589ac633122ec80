"""What a model was trained on never calibrates it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from efficientad.calibration_images import CONTENTS, contents_of, find_calibration_images
from efficientad.cli import main
from efficientad.run_images import find_normal_images
from PIL import Image

from efficientad_ext.model_file import Model, load_model, save_model


def write_images(folder: Path, names: Iterable[object]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in names]
    for path in paths:
        pixels = np.random.default_rng().integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def calibrate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments)])


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


def trained_on(model: Model, images: list[Path]) -> Model:
    return replace(model, training={**model.training, CONTENTS: contents_of(images)})


@pytest.mark.parametrize("puad", [True, False])
def test_the_folder_of_the_training_is_split_as_then(tmp_path: Path, model: Model, puad: bool):
    write_images(tmp_path, range(20))
    train, validation = find_normal_images(tmp_path, model.input_size, seed=7)
    model = trained_on(model, list(train.paths))
    for seed in (None, 0):
        found = find_calibration_images(model, tmp_path, seed, puad)
        assert found == (train.paths if puad else None, validation)


def test_images_that_were_added_calibrate(tmp_path: Path, model: Model):
    old = write_images(tmp_path, range(20))
    model = trained_on(model, old[:18])
    new = write_images(tmp_path, ("a", "b", "c"))
    assert find_calibration_images(model, tmp_path, None, True) == (
        tuple(sorted(old[:18])),
        tuple(sorted([*old[18:], *new])),
    )


def test_of_new_images_a_tenth_calibrates_or_without_puad_all_do(tmp_path: Path, model: Model):
    model = trained_on(model, write_images(tmp_path / "old", range(3)))
    new = write_images(tmp_path / "new", range(30))
    for_puad, validation = find_calibration_images(model, tmp_path / "new", None, True)
    assert len(validation) == 3
    assert sorted([*for_puad, *validation]) == sorted(new)
    assert find_calibration_images(model, tmp_path / "new", 5, True)[1] != validation
    assert find_calibration_images(model, tmp_path / "new", None, False) == (
        None,
        tuple(sorted(new)),
    )
    # A few that were trained on are no reason to make PUAD's statistics from them alone.
    for_puad, validation = find_calibration_images(model, tmp_path, None, True)
    assert (len(for_puad), len(validation)) == (30, 3)
    assert all(path.parent.name == "new" for path in validation)


def test_validation_images_that_were_trained_on_are_left_out(
    tmp_path: Path, model: Model, warnings_logged: pytest.LogCaptureFixture
):
    images = write_images(tmp_path / "train/good", range(3))
    validation = write_images(tmp_path / "validation/good", range(3))
    model = trained_on(model, [*images, validation[1]])
    assert find_calibration_images(model, tmp_path, None, True) == (
        tuple(images),
        (validation[0], validation[2]),
    )
    assert "left out 1 validation images that the model was trained on" in warnings_logged.text


@pytest.mark.parametrize("folder", ["", "validation/good"])
def test_nothing_but_what_was_trained_on(tmp_path: Path, model: Model, folder: str):
    images = write_images(tmp_path / "train/good", range(3))
    images += write_images(tmp_path / folder, range(3)) if folder else []
    with pytest.raises(ValueError, match=r"trained on all the images in .* add normal images"):
        find_calibration_images(trained_on(model, images), tmp_path, None, True)


def test_a_model_of_an_older_version_has_the_split_of_its_seed(tmp_path: Path, model: Model):
    write_images(tmp_path, range(20))
    training = {name: value for name, value in model.training.items() if name != CONTENTS}
    model = replace(model, training={**training, "seed": 5})
    train, validation = find_normal_images(tmp_path, model.input_size, seed=5)
    assert find_calibration_images(model, tmp_path, None, True) == (train.paths, validation)


def test_training_puts_down_what_it_trained_on(model: Model, tiny_data: Path):
    images = sorted((tiny_data / "train/good").iterdir())
    assert model.training[CONTENTS] == contents_of(images)
    assert len(set(model.training[CONTENTS])) == len(images)


@pytest.mark.parametrize("puad", [True, False])
def test_the_command_keeps_what_the_model_is(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, puad: bool
):
    path, output = tmp_path / "model.safetensors", tmp_path / "anew.safetensors"
    loaded = load_model(tiny_model)
    save_model(loaded if puad else replace(loaded, puad=None), path)
    result = calibrate(path, tiny_data, "-o", output, "--false-reject-rate", 0.2)
    assert result.exit_code == 0, result.output
    calibrated = load_model(output)
    assert (calibrated.puad is not None) == puad
    assert calibrated.training["false-reject rate asked for"] == 0.2
    assert "from 3 images" in result.stdout
    assert ("PUAD's statistics from 6" in result.stdout) == puad
    told = CliRunner().invoke(main, ["info", str(output)]).stdout
    assert CONTENTS not in told
    assert "trained with validation images: 3" in told
    other = calibrate(path, tiny_data, "-o", output, "--no-puad" if puad else "--puad")
    assert other.exit_code == 0, other.output
    assert (load_model(output).puad is None) == puad


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "MODEL", "DATA/test", "--json", "OUT/none/f.json"),
        ("time", "MODEL", "--json", "OUT/none/f.json"),
        ("calibrate", "MODEL", "DATA", "--output", "OUT/none/f.json"),
        ("threshold", "MODEL", "DATA", "--output", "OUT/none/f.json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_place_for_the_result_is_looked_for_first(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, arguments: tuple[str, ...]
):
    places = {"MODEL": tiny_model, "DATA": tiny_data, "OUT": tmp_path}
    command = list(arguments)
    for name, place in places.items():
        command = [one.replace(name, str(place)) for one in command]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: the folder {tmp_path / 'none'} for the output file does not exist; create it "
        "first\n"
    )
    assert not result.stdout
