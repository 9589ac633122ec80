"""Bad input to measuring and calibrating: one sentence from the command, nothing overwritten."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from efficientad.cli import main
from efficientad.run_images import find_normal_images
from PIL import Image

from efficientad_ext.model_file import load_model, save_model


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def error_of(result: Result) -> str:
    assert result.exit_code == 1, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def write_image(path: Path, size: tuple[int, int] = (50, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng().integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path: Path, size: tuple[int, int] = (50, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[3:9, 4:12] = 255
    Image.fromarray(mask).save(path)
    return path


def evaluated(model: Path, data: Path, folder: Path) -> tuple[Result, dict, str]:
    """The command's result, the JSON that it wrote, and the page."""
    result = run("evaluate", model, data, "--json", folder / "f.json", "--report", folder / "page")
    summary = json.loads((folder / "f.json").read_text())
    return result, summary, (folder / "page/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("kind", "missing"), [("good", "anomalous"), ("dent", "normal")])
def test_a_test_set_of_one_kind(tmp_path: Path, tiny_model: Path, kind: str, missing: str):
    write_image(tmp_path / "part/test" / kind / "0.png")
    write_mask(tmp_path / "part/ground_truth/dent/0.png")
    result, summary, page = evaluated(tiny_model, tmp_path / "part", tmp_path)
    assert result.exit_code == 0, result.output
    for name in ("image_auroc", "image_average_precision", "image_f1_max"):
        assert name not in summary
        assert f"there is no {missing} image" in summary["unavailable"][name]
    assert f"there is no {missing} image" in result.stdout
    assert f"there is no {missing} image" in page
    assert "ROC of the images" not in page
    if kind == "good":
        assert summary["detected"] is None
        assert "none there" in page
        assert summary["unavailable"]["au_pro"] == "there are no masks"
    else:
        assert summary["false_alarms"] is None
        assert f"AU-PRO to 30 %: {summary['au_pro']:.4f}" in result.stdout
        assert "Per-region overlap" in page


def test_masks_of_another_size_without_image_and_images_without_mask(
    tmp_path: Path, tiny_model: Path
):
    root = tmp_path / "part"
    write_image(root / "test/good/0.png")
    for name in ("fitting", "smaller", "bare"):
        write_image(root / f"test/dent/{name}.png")
    write_mask(root / "ground_truth/dent/fitting_mask.png")
    write_mask(root / "ground_truth/dent/smaller_mask.png", (25, 20))
    write_mask(root / "ground_truth/dent/nobody_mask.png")
    result, summary, page = evaluated(tiny_model, root, tmp_path)
    told = result.stderr
    assert "1 masks in" in told
    assert "belong to no image, such as" in told
    assert "nobody_mask.png" in told
    assert "smaller_mask.png has 25x20 pixels, but its image" in told
    assert "no mask marks a pixel of 1 anomalous images, such as" in told
    expected = "Error: 0 images could not be read, and the masks of 1 cannot be used"
    assert error_of(result) == expected
    assert summary["skipped_masks"] == [str(root / "test/dent/smaller.png")]
    assert summary["unmarked"] == [str(root / "test/dent/bare.png")]
    assert {"image_auroc", "pixel_auroc", "au_pro"} <= set(summary)
    assert page.count('alt="mask"') == 1


def test_without_a_validation_folder_training_images_are_held_out_and_no_test_image(
    tmp_path: Path, tiny_model: Path
):
    root = tmp_path / "bottle"
    for number in range(10):
        write_image(root / f"train/good/{number}.png")
    write_image(root / "test/good/0.png")
    write_image(root / "test/logical_anomalies/0.png")  # the layout of MVTec LOCO
    train, validation = find_normal_images(root, (128, 128), seed=0)
    assert (len(train.paths), len(validation)) == (9, 1)
    assert {*train.paths, *validation} == set((root / "train/good").iterdir())
    output = tmp_path / "anew.safetensors"
    result = run("calibrate", tiny_model, root, "--output", output)
    assert result.exit_code == 0, result.output
    assert "1 validation image is too little for a false-reject rate of 1 %" in result.stderr
    # An empty folder for validation is none.
    (root / "validation/good").mkdir(parents=True)
    assert find_normal_images(root, (128, 128), seed=0)[1] == validation


@pytest.fixture
def overflowing(tmp_path: Path, tiny_model: Path) -> Path:
    """A model whose features are so large that their squares are infinite."""
    model = load_model(tiny_model)
    weights = dict(model.student)
    last = list(weights)[-1]
    weights[last] = torch.full_like(weights[last], 1e30)
    path = tmp_path / "overflowing.safetensors"
    save_model(dataclasses.replace(model, student=weights), path)
    return path


def test_scores_that_are_not_finite_overwrite_nothing(
    tmp_path: Path, overflowing: Path, tiny_data: Path
):
    results = tmp_path / "results"
    results.mkdir()
    for name in ("f.json", "report.html", "lines.jsonl"):
        (results / name).write_text("previous")
    model = overflowing.read_bytes()
    image = tiny_data / "test/good/000.png"
    evaluation = ("evaluate", overflowing, tiny_data, "--json", results / "f.json")
    for arguments, message in (
        ((*evaluation, "--report", results), "the model gives NaN or infinite scores for"),
        (
            ("predict", overflowing, image, "--json", results / "lines.jsonl"),
            "the model gives a NaN or infinite score for",
        ),
        (("threshold", overflowing, tiny_data), "a score is NaN or infinite"),
        (("calibrate", overflowing, tiny_data), "the local map is NaN or infinite"),
    ):
        assert message in error_of(run(*arguments))
    assert overflowing.read_bytes() == model
    assert sorted(path.name for path in results.iterdir()) == [
        "f.json", "lines.jsonl", "report.html",
    ]  # fmt: skip
    assert {path.read_text() for path in results.iterdir()} == {"previous"}


def test_a_report_that_cannot_take_its_place(tmp_path: Path, tiny_model: Path):
    root = tmp_path / "part"
    write_image(root / "test/good/0.png")
    (tmp_path / "page/report.html").mkdir(parents=True)
    (tmp_path / "page/report.html/mine.txt").write_text("mine")
    result = run("evaluate", tiny_model, root, "--report", tmp_path / "page")
    assert "report.html could not be written" in error_of(result)
    assert [path.name for path in (tmp_path / "page").rglob("*")] == ["report.html", "mine.txt"]
    assert (tmp_path / "page/report.html/mine.txt").read_text() == "mine"


def test_a_place_for_the_figures_that_cannot_be_written_is_told_before_computing(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
):
    (tmp_path / "file").write_text("mine")
    result = run("evaluate", tiny_model, tiny_data, "--json", tmp_path / "file/f.json")
    assert "files cannot be written to the folder" in error_of(result)
    assert result.stdout == ""
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_for_the_model_that_is_not_there_is_told(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
):
    model = tmp_path / "model.safetensors"
    shutil.copy(tiny_model, model)
    output = tmp_path / "absent/model.safetensors"
    assert "does not exist" in error_of(run("threshold", model, tiny_data, "-o", output))
    assert model.read_bytes() == tiny_model.read_bytes()
    assert not output.parent.exists()
