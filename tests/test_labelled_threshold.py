"""The threshold of the best F1, against a search over every threshold there is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from efficientad.calibration import calibrate
from efficientad.cli import main
from efficientad.evaluation import evaluate
from efficientad.labelled_threshold import best_f1_threshold, calibrate_threshold
from efficientad.threshold import RATE
from PIL import Image
from sklearn.metrics import f1_score

from efficientad_ext.detector import Detector
from efficientad_ext.model_file import load_model


def f1(scores: np.ndarray, anomalous: np.ndarray, threshold: float) -> float:
    return float(f1_score(anomalous, scores > threshold))


def every_threshold(scores: np.ndarray) -> np.ndarray:
    """One for every set of verdicts that a threshold can give, highest first."""
    return np.array([*sorted(set(scores), reverse=True), scores.min() - 1])


@pytest.mark.parametrize("decimals", [0, 1, 12], ids=["few levels", "ties", "no ties"])
@pytest.mark.parametrize("shift", [-2.0, 0.0, 1.0, 30.0])
def test_it_is_the_best_of_a_search(decimals: int, shift: float):
    random = np.random.default_rng()
    for _ in range(20):
        anomalous = random.permutation(40) < random.integers(1, 40)
        scores = (random.normal(size=40) + shift * anomalous).round(decimals)
        threshold, best = best_f1_threshold(scores.tolist(), anomalous.tolist())
        found = [f1(scores, anomalous, one) for one in every_threshold(scores)]
        assert best == pytest.approx(max(found), abs=1e-12)
        assert f1(scores, anomalous, threshold) == pytest.approx(best, abs=1e-12)
        # Of those that are as good, none reports fewer images.
        first = every_threshold(scores)[int(np.argmax(np.array(found) > max(found) - 1e-12))]
        assert (scores > threshold).sum() == (scores > first).sum()


def test_it_lies_halfway_between_what_it_separates():
    assert best_f1_threshold([0.1, 0.3, 0.9, 2.0], [False, False, True, True]) == (0.6, 1.0)


def test_where_all_are_best_reported_it_is_below_all():
    threshold, best = best_f1_threshold([0.5, 0.6, 0.7], [True, False, True])
    assert threshold == np.nextafter(0.5, 0)
    assert best == pytest.approx(0.8)
    # One score for all images leaves nothing else.
    assert best_f1_threshold([3.0] * 4, [True, False, False, True])[0] < 3.0


@pytest.mark.parametrize(
    "low", [1.0, np.nextafter(1.0, 2.0), -1.0, 0.0, np.finfo(float).max / 2, -5e-324]
)
def test_neighbouring_numbers_are_told_apart(low: float):
    low = float(low)
    high = float(np.nextafter(low, np.inf))
    threshold, best = best_f1_threshold([low, high], [False, True])
    assert low <= threshold < high
    assert best == 1.0


def test_the_largest_numbers_do_not_overflow():
    largest = float(np.finfo(float).max)
    threshold, _ = best_f1_threshold([largest, -largest], [True, False])
    assert threshold == 0.0


@pytest.mark.parametrize(
    ("scores", "anomalous", "message"),
    [
        ([0.1, 0.2], [True, True], "best F1 needs normal and anomalous images.*no normal image"),
        ([0.1, 0.2], [False, False], "no anomalous image"),
        ([], [], "there is no anomalous image"),
        ([0.1, float("nan")], [True, False], "a score is NaN or infinite"),
        ([0.1, float("inf")], [True, False], "a score is NaN or infinite"),
        ([0.1], [True, False], "1 scores for 2 labels"),
    ],
)
def test_what_has_no_best_f1(scores: list[float], anomalous: list[bool], message: str):
    with pytest.raises(ValueError, match=message):
        best_f1_threshold(scores, anomalous)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_data: Path) -> Path:
    """The tiny model with the threshold of the best F1 on the tiny test images."""
    output = tmp_path_factory.mktemp("chosen") / "model.safetensors"
    result = run("threshold", tiny_model, tiny_data, "--output", output)
    assert result.exit_code == 0, result.output
    assert "on the 9 images that it was chosen on" in result.stdout
    return output


def test_the_command_changes_the_threshold_and_nothing_else(
    chosen: Path, tiny_model: Path, tiny_data: Path
):
    before, after = load_model(tiny_model), load_model(chosen)
    scored = evaluate(Detector(before), tiny_data).scored
    threshold, best = best_f1_threshold(
        [one.score for one in scored], [one.image.anomalous for one in scored]
    )
    assert after.threshold == pytest.approx(threshold, abs=1e-9)
    assert (after.quantiles, after.map_threshold) == (before.quantiles, before.map_threshold)
    assert after.puad is not None
    assert after.puad.weights == before.puad.weights  # type: ignore[union-attr]
    promised = {name: one for name, one in before.training.items() if name != RATE}
    assert {name: after.training.get(name) for name in promised} == promised
    assert RATE not in after.training
    result = evaluate(Detector(after), tiny_data)
    verdicts = [one.verdict for one in result.scored]
    truth = [one.image.anomalous for one in result.scored]
    assert f1_score(truth, verdicts) == pytest.approx(best)
    assert result.figures.values["image_f1_max"] == pytest.approx(best)


def test_evaluation_on_the_same_images_is_told_to_flatter(
    chosen: Path, tiny_data: Path, tmp_path: Path
):
    moved = tmp_path / "elsewhere"
    shutil.copytree(tiny_data / "test", moved / "test")
    (moved / "test/hole/000.png").rename(moved / "test/hole/z.png")
    for data in (tiny_data, moved):
        result = run("evaluate", chosen, data)
        assert result.exit_code == 0, result.output
        assert "the threshold was chosen on these very images" in result.stderr
    (moved / "test/good/000.png").unlink()
    assert "flatters" not in run("evaluate", chosen, moved).stderr


def test_a_new_calibration_forgets_the_labelled_images(
    chosen: Path, tiny_model: Path, tiny_data: Path
):
    images = sorted((tiny_data / "validation/good").iterdir())
    calibrated = calibrate(load_model(chosen), images)
    assert calibrated.training == load_model(tiny_model).training


def test_a_threshold_that_cannot_be_chosen_leaves_the_model(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
):
    model = tmp_path / "model.safetensors"
    shutil.copy(tiny_model, model)
    normal = tmp_path / "normal"
    shutil.copytree(tiny_data / "test/good", normal / "test/good")
    unreadable = tmp_path / "unreadable"
    (unreadable / "test/good").mkdir(parents=True)
    (unreadable / "test/good/0.png").write_text("no image")
    for data, message in (
        (normal, "no anomalous image"),
        (unreadable, "none of the labelled images"),
        (tmp_path / "absent", "does not exist"),
    ):
        result = run("threshold", model, data)
        assert result.exit_code == 1
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert message in last
        assert model.read_bytes() == tiny_model.read_bytes()


def test_an_unreadable_image_is_told_and_left_out(
    tiny_model: Path, tmp_path: Path, warnings_logged: pytest.LogCaptureFixture
):
    random = np.random.default_rng()
    for kind in ("good", "dent"):
        (tmp_path / "test" / kind).mkdir(parents=True)
        pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "test" / kind / "0.png")
    (tmp_path / "test/dent/1.png").write_text("no image")
    model, _ = calibrate_threshold(load_model(tiny_model), tmp_path)
    assert model.training["labelled images for the threshold"] == 2
    assert "skipped an image: " in warnings_logged.text
    assert "dent/1.png" in warnings_logged.text
