from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from efficientad.cli import main
from efficientad.pictures import colour_map, displayable, overlay
from efficientad.prediction import find_sources
from PIL import Image

from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image
from efficientad_ext.model_file import load_model


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def one_sentence(result: Result) -> str:
    """The error of a command that failed as it should."""
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def test_train_predict_evaluate_info(tmp_path: Path, tiny_data: Path):
    model = tmp_path / "model.safetensors"
    trained = run(
        "train", tiny_data, "--output", model, "--steps", 2, "--image-size", "128x136",
        "--teacher", "random", "--seed", 5, "--penalty-images", tiny_data / "test" / "stain",
        "--p-hard", 0.5,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert "stand-in" in trained.stderr

    told = run("info", model)
    assert told.exit_code == 0
    assert "input size: 128x136" in told.stdout
    assert "trained with seed: 5" in told.stdout
    assert "trained with p_hard: 0.5" in told.stdout

    images = tiny_data / "test" / "hole"
    lines = tmp_path / "results.jsonl"
    predicted = run(
        "predict", model, images, "--json", lines,
        "--maps", tmp_path / "maps", "--overlays", tmp_path / "overlays", "--device", "cpu",
    )  # fmt: skip
    assert predicted.exit_code == 0, predicted.output
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [Path(record["path"]).name for record in records] == ["000.png", "001.png"]
    detector = Detector.load(model)
    for record in records:
        detection = detector(record["path"], map_size=(160, 160))
        assert record["score"] == float(detection.score[0])
        assert record["verdict"] == ("anomalous" if detection.verdict[0] else "normal")
        assert record["seconds"] > 0
        with Image.open(record["map"]) as tiff:
            assert tiff.format == "TIFF"
            values = np.asarray(tiff)
        assert values.dtype == np.float32
        assert np.array_equal(values, detection.map[0, 0].numpy())
        with Image.open(record["overlay"]) as png:
            assert png.format == "PNG"
            assert png.size == (160, 160)

    figures = tmp_path / "figures.json"
    evaluated = run("evaluate", model, tiny_data, "--json", figures)
    assert evaluated.exit_code == 0, evaluated.output
    summary = json.loads(figures.read_text())
    assert f"image AU-ROC: {summary['image_auroc']:.4f}" in evaluated.stdout
    assert len(summary["images"]) == 3 + 3 * 2
    assert set(summary["image_auroc_by_defect"]) == {"hole", "scratch", "stain"}


def test_calibrate_anew(tmp_path: Path, tiny_model: Path, tiny_data: Path):
    assert "PUAD's features: the student's" in run("info", tiny_model).stdout
    other = tmp_path / "cloth"
    (other / "train" / "good").mkdir(parents=True)
    for number, image in enumerate(sorted((tiny_data / "train" / "good").iterdir())):
        turned = Image.open(image).rotate(180)
        turned.save(other / "train" / "good" / f"{number}.png")
    output = tmp_path / "anew.safetensors"
    result = run(
        "calibrate", tiny_model, other, "--output", output, "--false-reject-rate", "0.2",
        "--puad-features", "teacher",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    before, after = load_model(tiny_model), load_model(output)
    assert result.stdout == (
        f"{output}: threshold {after.threshold:.4f}, from 1 images, PUAD's statistics from 5\n"
    )
    assert after.quantiles != before.quantiles
    assert after.threshold != before.threshold
    assert after.feature_source == "teacher"
    assert "PUAD's features: the teacher's" in run("info", output).stdout
    assert all(torch.equal(before.student[key], after.student[key]) for key in before.student)
    assert run("calibrate", output, other).exit_code == 0
    assert load_model(output).feature_source == "teacher"
    without = run("calibrate", output, other, "--no-puad")
    assert without.exit_code == 0, without.output
    assert load_model(output).puad is None
    assert "score: EfficientAD's" in run("info", output).stdout


def test_json_lines_on_stdout(tiny_model: Path, tiny_data: Path):
    image = tiny_data / "test" / "good" / "000.png"
    result = run("predict", tiny_model, image, "--json", "-")
    assert json.loads(result.stdout)["path"] == str(image)


def test_precision_is_the_detectors(tmp_path: Path, tiny_model: Path, tiny_data: Path):
    image = tiny_data / "test" / "good" / "000.png"
    arguments = ["--precision", "bfloat16", "--device", "cpu"]
    expected = Detector.load(tiny_model, precision="bfloat16")(image).score
    assert expected != Detector.load(tiny_model, precision="float32")(image).score
    result = run("predict", tiny_model, image, *arguments, "--json", "-")
    assert json.loads(result.stdout)["score"] == expected
    figures = tmp_path / "figures.json"
    assert run("evaluate", tiny_model, tiny_data, *arguments, "--json", figures).exit_code == 0
    scores = {entry["path"]: entry["score"] for entry in json.loads(figures.read_text())["images"]}
    assert scores[str(image)] == expected


def test_an_unreadable_image_is_reported_skipped_and_counted(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_text("no image")
    (folder / "b.png").write_bytes((tiny_data / "test/good/000.png").read_bytes())
    result = run("predict", tiny_model, folder, "--json", tmp_path / "out.jsonl")
    assert one_sentence(result) == "Error: 1 of 2 images could not be read"
    assert str(folder / "a.png") in result.stderr
    records = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in records] == [str(folder / "b.png")]


def test_output_names_never_collide(tmp_path: Path):
    files = ["x/a.png", "x/a.jpg", "x/sub/a.png", "y/a.png", "y/A.PNG", "y/v1.2.png", "y/v1.3.png"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sources = find_sources([tmp_path / "x", tmp_path / "y", tmp_path / "x" / "a.png"])
    assert len(sources) == len(files) + 1
    names = [source.name.as_posix().casefold() for source in sources]
    assert len(set(names)) == len(names)
    by_path = {source.path: source.name.as_posix() for source in sources[:-1]}
    assert by_path[tmp_path / "x/sub/a.png"] == "sub/a"
    assert by_path[tmp_path / "y/v1.2.png"] == "v1.2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "MODEL", "none.png"], "none.png does not exist"),
        (["predict", "none.safetensors", "DATA"], "none.safetensors does not exist"),
        (["predict", "MODEL", "DATA", "--device", "gpu"], "'gpu' is not a device"),
        (["predict", "MODEL", "DATA", "--device", "cuda:99"], "there is no device cuda:99"),
        (
            ["predict", "MODEL", "DATA", "--device", "cpu", "--precision", "tf32"],
            'precision "tf32" is for CUDA devices',
        ),
        (["evaluate", "MODEL", "DATA/train/good"], "has no test images"),
        (["info", "DATA/train/good/000.png"], "000.png"),
        (["train", "DATA", "-o", "OUT/m", "--teacher", "none.pth"], "none.pth does not exist"),
        (["train", "none", "-o", "OUT/m", "--teacher", "random"], "none does not exist"),
        (["train", "DATA", "-o", "OUT/no/m", "--teacher", "random"], "create it first"),
        (
            ["train", "DATA", "-o", "OUT/m", "--teacher", "random", "--image-size", "64x64"],
            "128",
        ),
        (
            ["train", "DATA", "-o", "OUT/m", "--teacher", "random", "--penalty-images", "nowhere"],
            "nowhere does not exist",
        ),
        (["time", "none.safetensors"], "none.safetensors does not exist"),
        (
            ["distill", "--images", "DATA", "-o", "OUT/t", "--initial-teacher", "none.pth"],
            "none.pth does not exist",
        ),
        (
            ["time", "MODEL", "--precision", "tf32", "--device", "cpu"],
            'precision "tf32" is for CUDA devices',
        ),
        (["reproduce", "none", "-o", "OUT/r", "--teacher", "random"], "none does not exist"),
        (
            ["ablate", "DATA/test", "-o", "OUT/r", "--table", "puad", "--teacher", "random"],
            "holds no category",
        ),
        (
            [
                "ablate",
                "DATA",
                "-o",
                "OUT/r",
                "--table",
                "puad",
                "--teacher",
                "random",
                "--image-size",
                "64x64",
            ],
            "128",
        ),
        (["distill", "--images", "nowhere", "-o", "OUT/t"], "nowhere does not exist"),
        (["distill", "--images", "DATA", "-o", "OUT/no/t"], "create it first"),
        (
            ["distill", "--images", "DATA", "-o", "OUT/t", "--backbone-weights", "none.pth"],
            "none.pth does not exist",
        ),
        (
            ["distill", "--images", "DATA", "-o", "OUT/t", "--backbone-weights", "MODEL"],
            "does not fit --backbone efficientnet_lite2",
        ),
        (
            ["distill", "--images", "DATA", "-o", "OUT/t", "--backbone", "wide_resnet101_2"],
            "needs a file of its weights",
        ),
    ],
)
def test_errors_are_one_sentence(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, arguments: list[str], message: str
):
    places = {"MODEL": str(tiny_model), "DATA": str(tiny_data), "OUT": str(tmp_path)}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    assert message in one_sentence(run(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_told_as_such():
    result = run("train", "x", "-o", "y", "--image-size", "large")
    assert result.exit_code == 2
    assert "HEIGHTxWIDTH" in result.stderr


def test_help_does_not_load_torch():
    code = "import sys, efficientad.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "calibrate",
        "threshold",
        "predict",
        "evaluate",
        "info",
        "time",
        "reproduce",
        "ablate",
        "distill",
        "demo",
    ],
)
def test_every_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 3


def test_colours_grow_lighter_all_the_way():
    colours = colour_map(np.linspace(-0.2, 1.2, 400)[None]).astype(float)
    lightness = colours[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) >= -1.0).all()
    assert lightness[0] < 20
    assert lightness[-1] > 230


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_image_can_be_shown(shape, dtype):
    random = np.random.default_rng(1)
    image = random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    shown = displayable(image)
    assert shown.shape == (5, 7, 3)
    scaled = image.astype(np.float64) / np.iinfo(dtype).max
    if shape[-1] == 4:
        scaled = scaled[..., :3] * scaled[..., 3:] + 1 - scaled[..., 3:]
    expected = 255 * np.broadcast_to(scaled.reshape(5, 7, -1), (5, 7, 3))
    assert np.abs(shown - expected).max() <= 1.01


def test_an_overlay_covers_what_is_anomalous_and_leaves_the_rest():
    image = np.random.default_rng(2).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    anomaly_map = np.zeros((6, 8), np.float32)
    anomaly_map[2, 3] = 5.0
    covered = overlay(image, anomaly_map, threshold=1.0)
    changed = (covered != image).any(-1)
    assert changed[2, 3]
    assert changed.sum() == 1


def test_overlay_of_a_loaded_image_has_its_size(tiny_data: Path):
    image = load_image(tiny_data / "test/good/000.png")
    random = np.random.default_rng(3)
    anomaly_map = random.normal(size=image.shape[:2]).astype(np.float32)
    assert overlay(image, anomaly_map, threshold=-0.5).shape == image.shape
