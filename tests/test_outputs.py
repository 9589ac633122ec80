"""No command writes over what it reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from efficientad import prediction, training
from efficientad.cli import main
from efficientad.teacher import default_teacher_file
from efficientad.training import TrainingConfig
from PIL import Image


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path, tiny_data: Path) -> Path:
    """A copy of the data, with TIFF images to test on."""
    copy = tmp_path / tiny_data.name
    shutil.copytree(tiny_data, copy)
    for image in (copy / "test").rglob("*.png"):
        Image.open(image).save(image.with_suffix(".tiff"))
        image.unlink()
    return copy


@pytest.fixture
def model(tmp_path: Path, tiny_model: Path) -> Path:
    return Path(shutil.copy(tiny_model, tmp_path / "a model.safetensors"))


def commands(data: Path, model: Path) -> Iterator[tuple[object, ...]]:
    good = data / "train/good"
    image = min(good.iterdir())
    yield "predict", model, good, "--overlays", good
    yield "predict", model, data / "test", "--maps", data / "test"
    yield "predict", model, good, "--json", model
    yield "predict", model, good, "--json", image
    yield "evaluate", model, data, "--json", min((data / "test/good").iterdir())
    yield "threshold", model, data, "-o", image
    yield "evaluate", model, data, "--maps", data.parent
    yield "evaluate", model, data, "--json", model
    yield "time", model, "--json", model
    yield "calibrate", model, data, "-o", image
    yield "train", data, "-o", image, "--steps", 1, "--image-size", "128x128"
    yield "train", data, "-o", model, "--steps", 1, "--teacher", model
    yield "distill", "--images", good, "-o", model, "--steps", 1, "--initial-teacher", model
    yield "distill", "--images", good, "-o", model, "--steps", 1, "--backbone-weights", model


@pytest.mark.parametrize("number", range(14))
def test_nothing_that_is_read_is_overwritten(data: Path, model: Path, number: int):
    def contents() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in data.parent.rglob("*") if file.is_file()}

    before = contents()
    result = run(*list(commands(data, model))[number])
    assert result.exit_code == 1, result.output
    read = "is read by this very command, which would overwrite it"
    assert read in result.stderr or "is an image, which would be lost" in result.stderr
    assert contents() == before


def test_a_report_or_a_map_does_not_replace_the_model(data: Path, model: Path):
    for name, option, sentence in (
        ("report.html", "--report", "would overwrite it"),
        ("000.tiff", "--maps", "is named as maps are"),
    ):
        file = model.rename(model.with_name(name))
        content = file.read_bytes()
        result = run("evaluate", file, data, option, file.parent)
        assert result.exit_code == 1
        assert sentence in result.stderr
        assert file.read_bytes() == content
        file.rename(model)


def test_training_writes_over_nothing_that_it_reads(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    listed = tmp_path / "listed"
    listed.mkdir()
    lines = ["image,split,label,mask"]
    for image in (data / "train/good").iterdir():
        shutil.copy(image, listed / f"{image.stem}.img")
        lines.append(f"{image.stem}.img,train,good,")
    (listed / "images.csv").write_text("\n".join(lines))
    teacher = tmp_path / "teacher_small.safetensors"
    shutil.copy(default_teacher_file("small"), teacher)
    monkeypatch.setattr(training, "default_teacher_file", lambda _size: teacher)
    for folder, output in ((listed, min(listed.glob("*.img"))), (data, teacher)):
        content = output.read_bytes()
        with pytest.raises(ValueError, match="would overwrite it"):
            training.train(folder, output, config=TrainingConfig(steps=1, input_size=(128, 128)))
        assert output.read_bytes() == content


def test_records_of_an_interrupted_prediction_are_kept(
    tmp_path: Path, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    predict, calls = prediction.predict, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*arguments)

    monkeypatch.setattr(prediction, "predict", interrupted)
    lines = tmp_path / "lines.jsonl"
    result = run("predict", model, data / "train/good", "--json", lines)
    assert result.exit_code == 1
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [Path(one["path"]).name for one in records] == ["000.png", "001.png"]
