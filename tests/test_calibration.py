from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientad.calibration import calibrate
from efficientad.prediction import predict
from PIL import Image

from efficientad_ext import ops
from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image
from efficientad_ext.model_file import Model, load_model, save_model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> list[Path]:
    return sorted((tiny_data / "validation" / "good").iterdir())


def test_quantiles_are_numpys_over_all_pixels_of_the_feature_grid(model: Model, images: list[Path]):
    detector = Detector(model)
    inputs = [
        ops.resize_normalize(torch.from_numpy(load_image(path)), model.input_size)
        for path in images
    ]
    expected = [
        np.quantile(np.concatenate([one.numpy().ravel() for one in maps]).astype(np.float64), q)
        for maps in zip(*(detector.maps(x) for x in inputs), strict=True)
        for q in (0.9, 0.995)
    ]
    assert calibrate(model, images).quantiles == pytest.approx(expected, rel=1e-6)


def test_threshold_is_the_highest_score_of_the_validation_images(model: Model, images: list[Path]):
    calibrated = calibrate(model, images)
    detection = Detector(calibrated)(images)
    assert calibrated.threshold == float(detection.score.max())
    assert not detection.verdict.any()


def test_what_was_calibrated_before_does_not_matter(model: Model, images: list[Path]):
    other = dataclasses.replace(model, quantiles=(1.0, 2.0, -1.0, 7.0), threshold=5.0)
    first, second = calibrate(model, images), calibrate(other, images)
    assert first.quantiles == second.quantiles
    assert first.threshold == second.threshold


def test_the_saved_models_scores_are_those_of_the_training_process(
    tmp_path: Path, model: Model, images: list[Path], tiny_data: Path
):
    """Fit, save, load, predict: bit for bit the scores of the model that was never saved."""
    calibrated = calibrate(model, images)
    in_training = Detector(calibrated)
    path = tmp_path / "model.safetensors"
    save_model(calibrated, path)
    loaded = Detector.load(path)
    for image in [*images, *sorted((tiny_data / "test").rglob("*.png"))]:
        prediction = predict(loaded, image)
        detection = in_training(image)
        assert prediction.score == float(detection.score[0])
        assert prediction.anomalous == bool(detection.verdict[0])


def test_constant_maps_are_an_error(model: Model, tmp_path: Path):
    """Constant features of teacher, student and autoencoder give constant maps: a = b."""

    def constant(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        last = list(weights)[-2]
        return {**weights, last: torch.zeros_like(weights[last])}

    flat = dataclasses.replace(
        model, teacher=constant(model.teacher), student=constant(model.student)
    )
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(
        path
    )
    with pytest.raises(ValueError, match="the local map has the same value"):
        calibrate(flat, [path])


def test_few_validation_images_are_worth_a_warning(
    model: Model, images: list[Path], warnings_logged: pytest.LogCaptureFixture
):
    calibrate(model, images)
    assert "rests on 3 validation images" in warnings_logged.text
    assert "probability 1/4" in warnings_logged.text


def test_one_validation_image_works_with_a_warning(
    model: Model, images: list[Path], warnings_logged: pytest.LogCaptureFixture
):
    calibrated = calibrate(model, images[:1])
    assert "rests on 1 validation image:" in warnings_logged.text
    assert calibrated.threshold == float(Detector(calibrated)(images[0]).score[0])


def test_no_validation_image_is_an_error(model: Model):
    with pytest.raises(ValueError, match="at least one validation image"):
        calibrate(model, [])
