from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientad.calibration import CalibrationConfig, calibrate
from efficientad.networks import initial_networks
from efficientad.prediction import predict
from PIL import Image
from sklearn.covariance import ledoit_wolf

from efficientad_ext import ops
from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image
from efficientad_ext.inference import autoencoder_input
from efficientad_ext.model_file import Model, load_model, save_model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model)


def network_input(path: Path) -> torch.Tensor:
    return ops.resize_normalize(torch.from_numpy(load_image(path)), (128, 128))


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> list[Path]:
    return sorted((tiny_data / "validation" / "good").iterdir())


def test_quantiles_are_numpys_over_all_pixels_of_the_feature_grid(model: Model, images: list[Path]):
    detector = Detector(model)
    inputs = list(map(network_input, images))
    expected = [
        np.quantile(np.concatenate([one.numpy().ravel() for one in maps]).astype(np.float64), q)
        for maps in zip(*(detector.maps(x) for x in inputs), strict=True)
        for q in (0.9, 0.995)
    ]
    assert calibrate(model, images).quantiles == pytest.approx(expected, rel=1e-6)


def test_other_quantiles(model: Model, images: list[Path]):
    config = CalibrationConfig(quantile_levels=(0.5, 0.98))
    calibrated = calibrate(model, images, config=config)
    detector = Detector(model)
    maps = zip(*(detector.maps(network_input(path)) for path in images), strict=True)
    expected = [float(torch.cat(one).quantile(q)) for one in maps for q in (0.5, 0.98)]
    assert calibrated.quantiles == pytest.approx(expected, rel=1e-5)
    assert calibrated.quantile_levels == (0.5, 0.98)


def test_the_gaussian_baseline_gives_maps_of_mean_0_and_variance_1(
    model: Model, images: list[Path]
):
    calibrated = calibrate(model, images, config=CalibrationConfig(quantile_levels=None))
    assert calibrated.quantile_levels is None
    detector = Detector(calibrated)
    maps = zip(*(detector.maps(network_input(path)) for path in images), strict=True)
    for one, (a, b) in zip(maps, (calibrated.quantiles[:2], calibrated.quantiles[2:]), strict=True):
        normalised = 0.1 * (torch.cat(one).double() - a) / (b - a)
        assert abs(float(normalised.mean())) < 1e-9
        assert abs(float(normalised.var(correction=0)) - 1) < 1e-9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantile_levels": (0.9, 0.5)}, "0 <= a < b <= 1"),
        ({"quantile_levels": (-0.1, 0.5)}, "0 <= a < b <= 1"),
        ({"puad_features": "autoencoder"}, "expected student or teacher"),
    ],
)
def test_settings_out_of_range(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        CalibrationConfig(**changes)


def test_puads_features_of_the_teacher(model: Model, images: list[Path], tiny_data: Path):
    trained_on = sorted((tiny_data / "train" / "good").iterdir())
    config = CalibrationConfig(puad_features="teacher")
    calibrated = calibrate(model, images, config=config, puad_images=trained_on)
    assert calibrated.feature_source == "teacher"
    detector = Detector(calibrated)
    features = torch.cat([detector.features(x) for x in map(network_input, trained_on)])
    torch.testing.assert_close(calibrated.puad.mean, features.double().mean(dim=0))
    # Over the pixels of all training images, the normalised teacher's output has mean 0.
    exact = Detector(calibrated, precision="float32")
    features = torch.cat([exact.features(x) for x in map(network_input, trained_on)])
    assert float(features.double().mean(dim=0).abs().max()) < 1e-3
    of_student = calibrate(model, images, puad_images=trained_on)
    assert of_student.feature_source == "student"
    assert not torch.equal(of_student.puad.mean, calibrated.puad.mean)


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
    trained_on = sorted((tiny_data / "train" / "good").iterdir())
    calibrated = calibrate(model, images, puad_images=trained_on)
    in_training = Detector(calibrated)
    path = tmp_path / "model.safetensors"
    save_model(calibrated, path)
    loaded = Detector.load(path)
    for image in [*images, *sorted((tiny_data / "test").rglob("*.png"))]:
        prediction = predict(loaded, image)
        detection = in_training(image)
        assert prediction.score == float(detection.score[0])
        assert prediction.anomalous == bool(detection.verdict[0])


def test_puad_is_of_the_training_images(model: Model, images: list[Path], tiny_data: Path):
    trained_on = sorted((tiny_data / "train" / "good").iterdir())
    calibrated = calibrate(model, images, puad_images=trained_on)
    assert calibrated.quantiles == calibrate(model, images).quantiles
    puad = calibrated.puad
    assert puad is not None
    detector = Detector(calibrated)
    features = torch.cat([detector.features(x) for x in map(network_input, trained_on)])
    torch.testing.assert_close(puad.mean, features.double().mean(dim=0))
    expected = ledoit_wolf(features.double().numpy())[0]
    torch.testing.assert_close(puad.factor @ puad.factor.T, torch.from_numpy(expected))
    detections = [detector(path) for path in images]
    # Both normalised scores have mean 0 and variance 1 on the validation images, their sum mean 0.
    for name in ("picturable", "unpicturable"):
        scores = torch.cat([getattr(one, f"{name}_score") for one in detections]).double()
        normalised = getattr(puad, name)(scores)
        assert abs(float(normalised.mean())) < 1e-6
        assert abs(float(normalised.var(correction=0)) - 1) < 1e-6
    final = torch.cat([one.score for one in detections])
    assert abs(float(final.mean())) < 1e-6
    assert calibrated.threshold == float(final.max())
    assert calibrated.map_threshold == max(float(one.picturable_score[0]) for one in detections)


def test_one_validation_image_gives_no_spread(
    model: Model, images: list[Path], warnings_logged: pytest.LogCaptureFixture
):
    calibrated = calibrate(model, images[:1], puad_images=images)
    assert calibrated.puad is not None
    assert calibrated.puad.picturable.deviation == calibrated.puad.unpicturable.deviation == 1
    assert "the unpicturable score is the same for all 1 validation images" in warnings_logged.text
    assert calibrated.threshold == 0


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_images_for_puad_are_an_error(model: Model, images: list[Path], count: int):
    with pytest.raises(ValueError, match=f"at least 3 normal images, but there is {count};"):
        calibrate(model, images, puad_images=images[:count])


def test_equal_images_are_no_covariance(model: Model, images: list[Path]):
    with pytest.raises(ValueError, match="the features of these are all the same"):
        calibrate(model, images, puad_images=[images[0]] * 3)


def test_the_largest_activation_is_that_of_all_networks_between_their_layers(
    model: Model, images: list[Path]
):
    """Against the layers as they are trained, of which nothing within a stage is stored."""
    networks = initial_networks("small", (128, 128), model.teacher, 0, torch.device("cpu"))
    networks.student.load_state_dict(model.student)
    networks.autoencoder.load_state_dict(model.autoencoder)
    largest = 0.0
    for path in images[:16]:
        x = network_input(path)
        for network, image in (
            (networks.teacher, x),
            (networks.student, x),
            (networks.autoencoder.eval(), autoencoder_input(x)),
        ):
            for layer in network[:-1]:
                image = layer(image)
                largest = max(largest, image.detach().abs().amax().item())
    assert calibrate(model, images).largest_activation == pytest.approx(largest, rel=1e-5)


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
    for config in (CalibrationConfig(), CalibrationConfig(quantile_levels=None)):
        with pytest.raises(ValueError, match="the local map has the same value"):
            calibrate(flat, [path], config=config)


def test_few_validation_images_are_worth_a_warning(
    model: Model, images: list[Path], warnings_logged: pytest.LogCaptureFixture
):
    calibrate(model, images)
    # 1 - 0.05^(1/3), and log 0.05 / log 0.99.
    assert "3 validation images are too few for a false-reject rate of 1 %" in warnings_logged.text
    assert "promises 63.2 % (with 95 % confidence)" in warnings_logged.text
    assert "hold out 299 images" in warnings_logged.text


def test_one_validation_image_works_with_a_warning(
    model: Model, images: list[Path], warnings_logged: pytest.LogCaptureFixture
):
    calibrated = calibrate(model, images[:1])
    assert "1 validation image is too little" in warnings_logged.text
    assert calibrated.threshold == float(Detector(calibrated)(images[0]).score[0])


def test_no_validation_image_is_an_error(model: Model):
    with pytest.raises(ValueError, match="at least one validation image"):
        calibrate(model, [])
