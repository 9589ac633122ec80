"""Evaluation from files to figures, against the metrics' own tests and a stand-in for the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner
from efficientad.cli import main
from efficientad.datasets import LabelledImage
from efficientad.evaluation import Evaluation, ScoredImage, evaluate, summarize
from efficientad.figures import title
from efficientad.metrics import PixelScores, image_auroc
from PIL import Image

from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image


@dataclass(frozen=True)
class Brightness:
    """A stand-in for a detector: the map is the image's brightness."""

    threshold: float = 0.5
    offset: float = 0.0

    def __call__(self, image: np.ndarray, *, map_size: tuple[int, int]) -> Any:
        assert image.shape[:2] == map_size
        brightness = torch.from_numpy(image.mean(axis=-1, dtype=np.float32)) / 255 + self.offset
        score = brightness.max()[None]
        found = {
            "map": brightness[None, None],
            "score": score,
            "picturable_score": score,
            "unpicturable_score": None,
            "verdict": score > self.threshold,
        }
        return type("Detection", (), found)()


DETECTOR: Any = Brightness()


def write_image(path: Path, mask: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (18, 14) if mask is None else mask.shape
    pixels = np.random.default_rng().integers(0, 150, (*shape, 3), dtype=np.uint8)
    if mask is not None:
        pixels[mask] += 90
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path: Path, value: int = 255, shape: tuple[int, int] = (18, 14)) -> np.ndarray:
    random = np.random.default_rng()
    mask = np.zeros(shape, bool)
    y, x = random.integers(0, 8, 2)
    mask[y : y + 4, x : x + 5] = True
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * value).astype(np.uint8)).save(path)
    return mask


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "part"
    for number in range(3):
        write_image(root / f"test/good/{number}.png")
        mask = write_mask(root / f"ground_truth/dent/{number}_mask.png")
        write_image(root / f"test/dent/{number}.png", mask)
    write_image(root / "test/hole/0.png", write_mask(root / "ground_truth/hole/0.png"))
    return root


def gather(result: Evaluation) -> PixelScores:
    """The pixels of an evaluation, read again from its files."""
    pixels = PixelScores()
    for scored in result.scored:
        brightness = load_image(scored.image.path).mean(axis=-1, dtype=np.float32) / 255
        masks = [load_image(path) > 0 for path in scored.image.masks]
        pixels.add(brightness, np.any(masks, axis=0) if masks else None)
    return pixels


def test_all_figures_of_a_set_with_masks(data: Path):
    result = evaluate(DETECTOR, data)
    figures = result.figures.values
    assert set(figures) == {
        "image_auroc", "image_average_precision", "image_f1_max", "pixel_auroc", "au_pro",
    }  # fmt: skip
    assert result.figures.unavailable == {}
    labels = [one.image.anomalous for one in result.scored]
    assert labels == [True] * 3 + [False] * 3 + [True]
    assert figures["image_auroc"] == image_auroc([one.score for one in result.scored], labels)
    pixels = gather(result)
    assert figures["pixel_auroc"] == pixels.pixel_auroc()
    assert figures["au_pro"] == pixels.au_pro()
    assert set(result.auroc_by_defect) == {"dent", "hole"}
    verdicts = np.array([one.verdict for one in result.scored])
    assert result.detected == verdicts[labels].mean()
    assert result.false_alarms == verdicts[np.invert(labels)].mean()
    summary = json.loads(json.dumps(result.summary()))
    assert summary["au_pro"] == figures["au_pro"]
    assert len(summary["images"]) == 7


def test_without_masks_the_image_metrics_still_come(data: Path):
    for path in sorted((data / "ground_truth").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    result = evaluate(DETECTOR, data)
    assert set(result.figures.unavailable) == {"pixel_auroc", "au_pro"}
    assert "image_auroc" in result.figures.values
    assert result.pro_curve is None
    assert result.skipped_masks == result.unmarked == ()
    assert "AU-PRO to 30 %: there are no masks" in result.lines(0.5)


def test_without_anomalies_no_figure_but_the_false_alarms(data: Path):
    for kind in ("dent", "hole"):
        for path in (data / "test" / kind).iterdir():
            path.unlink()
    result = evaluate(DETECTOR, data)
    assert result.figures.values == {}
    assert "no anomalous image" in result.figures.unavailable["image_auroc"]
    assert result.detected is None
    assert result.false_alarms is not None
    assert result.auroc_by_defect == {}
    assert result.lines(0.5)[-1].startswith("at threshold 0.5000: ")


def test_without_normal_images_the_pixel_metrics_still_come(data: Path):
    for path in (data / "test/good").iterdir():
        path.unlink()
    result = evaluate(DETECTOR, data)
    assert "no normal image" in result.figures.unavailable["image_auroc"]
    assert set(result.figures.values) == {"pixel_auroc", "au_pro"}
    assert result.figures.values["au_pro"] == gather(result).au_pro()
    assert result.false_alarms is None


def test_masks_that_cannot_be_used_are_told_and_left_out(
    data: Path, warnings_logged: pytest.LogCaptureFixture
):
    write_mask(data / "ground_truth/dent/0_mask.png", shape=(9, 14))
    (data / "ground_truth/dent/1_mask.png").unlink()
    write_mask(data / "ground_truth/dent/2_mask.png", value=0)
    write_image(data / "test/dent/3.png", write_mask(data / "ground_truth/dent/3.png"))
    (data / "ground_truth/hole/0.png").write_text("no image")
    result = evaluate(DETECTOR, data)
    assert [path.name for path in result.skipped_masks] == ["0.png", "0.png"]
    assert [path.name for path in result.unmarked] == ["1.png", "2.png"]
    messages = [record.getMessage() for record in warnings_logged.records]
    assert len(messages) == 3
    assert "14x9 pixels" in messages[0]
    assert "hole/0.png cannot be read as an image" in messages[1]
    assert "no mask marks a pixel of 2 anomalous images, such as" in messages[2]
    left_out = (*result.skipped_masks, *result.unmarked)
    assert len(result.scored) == 8
    kept = [one for one in result.scored if one.image.path not in left_out]
    assert result.figures.values["au_pro"] == gather(summarize(kept)).au_pro()


def test_loco_weights_logical_and_structural_anomalies_equally(tmp_path: Path):
    root = tmp_path / "bag"
    entry = {"pixel_value": 255, "saturation_threshold": 6, "relative_saturation": False}
    for number in range(2):
        write_image(root / f"test/good/{number}.png")
    counts = {"logical_anomalies": 3, "structural_anomalies": 1}
    expected = {kind: PixelScores() for kind in [*counts, "pooled"]}
    for kind, count in counts.items():
        for number in range(count):
            place = root / "ground_truth" / kind / f"{number:03}"
            masks = [write_mask(place / f"{channel:03}.png") for channel in range(2)]
            write_image(root / "test" / kind / f"{number:03}.png", masks[0] | masks[1])
    (root / "defects_config.json").write_text(json.dumps([{"defect_name": "d", **entry}]))
    result = evaluate(DETECTOR, root)
    for one in result.scored:
        brightness = load_image(one.image.path).mean(axis=-1, dtype=np.float32) / 255
        masks = [load_image(path) > 0 for path in one.image.masks]
        defects = [(mask, 6) for mask in masks]
        for name, pixels in expected.items():
            if name in (one.image.label, "pooled") or not one.image.anomalous:
                pixels.add(brightness, np.any(masks, axis=0) if masks else None, defects)
    figures = result.figures.values
    for name, limit in (("au_spro_5", 0.05), ("au_spro_30", 0.3)):
        logical, structural, pooled = (pixels.au_spro(limit) for pixels in expected.values())
        assert figures[f"{name}_logical"] == pytest.approx(logical, abs=1e-14)
        assert figures[f"{name}_structural"] == pytest.approx(structural, abs=1e-14)
        assert figures[f"{name}_pooled"] == pytest.approx(pooled, abs=1e-14)
        mean = (logical + structural) / 2
        assert figures[f"{name}_equally_weighted"] == pytest.approx(mean, abs=1e-14)
    of_kinds = result.auroc_by_defect
    assert figures["image_auroc_logical"] == of_kinds["logical_anomalies"]
    assert figures["image_auroc_equally_weighted"] == sum(of_kinds.values()) / 2
    assert title("image_auroc_equally_weighted") == "image AU-ROC, mean of logical and structural"


def test_loco_with_one_kind_only_says_what_is_missing(tmp_path: Path):
    root = tmp_path / "bottle"
    write_image(root / "test/good/0.png")
    mask = write_mask(root / "ground_truth/logical_anomalies/0_mask.png")
    write_image(root / "test/logical_anomalies/0.png", mask)
    result = evaluate(DETECTOR, root)
    assert {"image_auroc_logical", "au_pro"} <= set(result.figures.values)
    reason = result.figures.unavailable["image_auroc_equally_weighted"]
    assert (
        reason == "the mean needs both kinds: there are no images of the kind structural_anomalies"
    )
    assert "defects_config.json" in result.figures.unavailable["au_spro_5"]


def test_maps_lie_where_the_official_scripts_look(data: Path, tmp_path: Path):
    write_image(data / "test/dent/0.jpg")  # the same name but for its suffix
    result = evaluate(DETECTOR, data, maps=tmp_path / "maps")
    written = sorted(path for path in (tmp_path / "maps").rglob("*") if path.is_file())
    place = tmp_path / "maps/part/test"
    assert place / "dent/2.tiff" in written
    assert place / "dent/0-2.tiff" in written
    assert place / "good/0.tiff" in written
    assert sorted(one.map for one in result.scored) == written
    for one in result.scored:
        values = tifffile.imread(one.map)
        assert values.dtype == np.float32
        expected = load_image(one.image.path).mean(axis=-1, dtype=np.float32) / 255
        assert np.array_equal(values, expected)
        assert values.max() == np.float32(one.score)


@pytest.mark.parametrize("offset", [np.nan, np.inf])
def test_nan_scores_are_an_error(data: Path, offset: float):
    detector: Any = Brightness(offset=offset)
    with pytest.raises(ValueError, match=r"NaN or infinite scores for .*dent/0.png"):
        evaluate(detector, data)


def test_no_readable_image_is_an_error(tmp_path: Path):
    (tmp_path / "test/good").mkdir(parents=True)
    (tmp_path / "test/good/0.png").write_text("no image")
    with pytest.raises(ValueError, match="none of the test images"):
        evaluate(DETECTOR, tmp_path)


def test_summarize_without_pixels():
    good, bad = LabelledImage(Path("g"), "good"), LabelledImage(Path("b"), "hole")
    result = summarize([ScoredImage(good, 0.1, False), ScoredImage(bad, 0.7, True)])
    assert result.figures.values["image_auroc"] == 1.0
    assert (result.detected, result.false_alarms) == (1.0, 0.0)


def test_the_command_writes_figures_and_maps(tmp_path: Path, tiny_model: Path, tiny_data: Path):
    figures, maps = tmp_path / "figures.json", tmp_path / "new" / "maps"
    arguments = [tiny_model, tiny_data, "--json", figures, "--maps", maps, "--device", "cpu"]
    arguments += ["--format", "mvtec_ad"]
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    summary = json.loads(figures.read_text())
    for name in ("image_auroc", "image_f1_max", "pixel_auroc", "au_pro"):
        assert f"{title(name)}: {summary[name]:.4f}" in result.stdout.splitlines()
    detector = Detector.load(tiny_model)
    for image in summary["images"]:
        assert tifffile.imread(image["map"]).max() <= np.float32(image["picturable_score"])
        detection = detector(image["path"])
        assert image["score"] == float(detection.score[0])
        assert image["unpicturable_score"] == float(detection.unpicturable_score[0])


def test_the_command_ends_with_1_if_a_mask_cannot_be_used(tiny_model: Path, data: Path):
    (data / "ground_truth/dent/1_mask.png").write_text("no image")
    result = CliRunner().invoke(main, ["evaluate", str(tiny_model), str(data)])
    assert result.exit_code == 1
    assert "AU-PRO to 30 %: " in result.stdout
    last = result.stderr.strip().splitlines()[-1]
    assert last == "Error: 0 images could not be read, and the masks of 1 cannot be used"


def test_a_folder_for_maps_that_cannot_be_written(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
):
    (tmp_path / "file").touch()
    arguments = ["evaluate", tiny_model, tiny_data, "--maps", tmp_path / "file" / "maps"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert result.stdout == ""  # before anything was computed
    assert "files cannot be written to the folder" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
