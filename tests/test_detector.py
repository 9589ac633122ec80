"""The detector against a float64 composition in plain torch, and its contracts."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from efficientad_ext.architecture import AveragePool, Convolution, Dropout, ReLU, feature_grid
from efficientad_ext.detector import Detection, Detector
from efficientad_ext.model_file import Model, model_layers, save_model

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class Reference:
    """Random networks in float64, and the method written out on them."""

    def __init__(self, size: str, input_size: tuple[int, int]) -> None:
        self.input_size = input_size
        networks = {
            name: nn.Sequential(*(self._module(layer) for layer in layers)).eval()
            for name, layers in model_layers(size, input_size).items()
        }
        self.model = Model(
            size=size,
            input_size=input_size,
            teacher=networks["teacher"].state_dict(),
            student=networks["student"].state_dict(),
            autoencoder=networks["autoencoder"].state_dict(),
            teacher_mean=torch.randn(384),
            teacher_deviation=torch.rand(384) + 0.5,
            quantiles=(1.0, 2.5, 0.8, 1.7),
            threshold=0.1,
            training={},
        )
        self.networks = {name: copy.deepcopy(net).double() for name, net in networks.items()}

    @staticmethod
    def _module(layer) -> nn.Module:
        if isinstance(layer, Convolution):
            module = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding
            )
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            return module
        if isinstance(layer, ReLU):
            return nn.ReLU()
        if isinstance(layer, AveragePool):
            return nn.AvgPool2d(2, 2, layer.padding)
        if isinstance(layer, Dropout):
            return nn.Dropout(layer.probability)
        return nn.Upsample(layer.size, mode="bilinear")

    @torch.no_grad()
    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.double()
        teacher = self.networks["teacher"](x)
        mean, deviation = self.model.teacher_mean, self.model.teacher_deviation
        teacher = (teacher - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)
        student = self.networks["student"](x)
        small = functional.interpolate(x, (256, 256), mode="bilinear", antialias=True)
        autoencoder = self.networks["autoencoder"](small)
        local_map = (teacher - student[:, :384]).square().mean(1, keepdim=True)
        global_map = (autoencoder - student[:, 384:]).square().mean(1, keepdim=True)
        return local_map, global_map

    def combined(self, x: Tensor) -> Tensor:
        local_map, global_map = self.maps(x)
        local_a, local_b, global_a, global_b = self.model.quantiles
        local_map = 0.1 * (local_map - local_a) / (local_b - local_a)
        global_map = 0.1 * (global_map - global_a) / (global_b - global_a)
        return (local_map + global_map) / 2


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("small", (128, 160))


@pytest.fixture(scope="module")
def detector(reference) -> Detector:
    return Detector(reference.model)


def random_image(height: int = 128, width: int = 160, channels: int = 3, bits: int = 8):
    dtype = np.uint8 if bits == 8 else np.uint16
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng().integers(0, 2**bits, shape, dtype=dtype)


def normalised(image: np.ndarray) -> Tensor:
    """An image of the input size, as the network takes it, in float64."""
    pixels = torch.from_numpy(image.astype(np.float64) / np.iinfo(image.dtype).max)
    return (pixels.permute(2, 0, 1)[None] - MEAN) / DEVIATION


def assert_close(actual: Tensor, expected: Tensor, relative: float = 1e-4) -> None:
    assert actual.shape == expected.shape
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=relative * scale)


def assert_same(one: Detection, other: Detection) -> None:
    assert torch.equal(one.map, other.map)
    assert torch.equal(one.score, other.score)
    assert torch.equal(one.verdict, other.verdict)


@pytest.mark.parametrize(
    ("size", "input_size"),
    [
        ("small", (128, 128)),
        ("small", (131, 150)),
        ("small", (256, 256)),
        ("small", (300, 129)),
        ("medium", (128, 133)),
    ],
)
def test_maps_are_those_of_the_method(size, input_size):
    reference = Reference(size, input_size)
    x = torch.randn(1, 3, *input_size)
    actual = Detector(reference.model).maps(x)
    for actual_map, expected_map in zip(actual, reference.maps(x), strict=True):
        assert actual_map.dtype == torch.float32
        assert tuple(actual_map.shape) == (len(x), 1, *feature_grid(*input_size))
        assert_close(actual_map, expected_map)


def test_score_and_map_are_pixel_exact(reference, detector):
    image = random_image()
    combined = reference.combined(normalised(image))
    detection = detector(image)
    assert detection.score.dtype == detection.map.dtype == torch.float32
    assert tuple(detection.map.shape) == (1, 1, 128, 160)
    rows, columns = combined.shape[2:]
    at_centres = detection.map[:, :, 16 : 16 + 4 * rows : 4, 16 : 16 + 4 * columns : 4]
    assert_close(at_centres, combined)
    assert_close(detection.score, combined.amax(dim=(1, 2, 3)))
    assert detection.map.max() == detection.score
    border = detection.blind_border
    assert (border.top, border.left) == (16, 16)
    inner = detection.map[0, 0, border.top : 128 - border.bottom, border.left : 160 - border.right]
    assert inner.shape == (4 * rows - 3, 4 * columns - 3)
    edges = functional.pad(
        inner[None], (border.left, border.right, border.top, border.bottom), mode="replicate"
    )
    torch.testing.assert_close(detection.map[0], edges, rtol=1e-5, atol=1e-6)
    # Between four centres lies their mean.
    middle = detection.map[:, :, 18:-20:4, 18:-20:4][..., : rows - 1, : columns - 1]
    mean = functional.avg_pool2d(combined, 2, 1)
    assert_close(middle, mean)


def test_map_at_another_size_shows_the_same_places(detector):
    image = random_image()
    at_input_size = detector(image)
    tripled = detector(image, map_size=(3 * 128, 3 * 160))
    assert torch.equal(tripled.score, at_input_size.score)
    torch.testing.assert_close(tripled.map[:, :, 1::3, 1::3], at_input_size.map)
    odd = detector(image, map_size=(77, 200))
    assert tuple(odd.map.shape) == (1, 1, 77, 200)
    assert torch.equal(odd.score, at_input_size.score)


def test_the_papers_alignment(reference):
    image = random_image()
    detector = Detector(reference.model, alignment="paper")
    padded = functional.pad(reference.combined(normalised(image)), (4, 4, 4, 4))
    at_input_size = functional.interpolate(padded, (128, 160), mode="bilinear")
    detection = detector(image)
    assert_close(detection.map, at_input_size)
    assert_close(detection.score, at_input_size.amax(dim=(1, 2, 3)))
    larger = detector(image, map_size=(99, 333))
    assert_close(larger.map, functional.interpolate(padded, (99, 333), mode="bilinear"))
    assert torch.equal(larger.score, detection.score)


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_16_bits_are_scaled(detector, channels):
    image = random_image(91, 203, channels)
    detection = detector(image)
    deep = detector(image.astype(np.uint16) * 257)
    torch.testing.assert_close(deep.map, detection.map, rtol=1e-4, atol=1e-4)
    # All 16 bits count: the upper 8 alone are another image.
    fine = random_image(91, 203, channels, bits=16)
    coarse = fine & 0xFF00
    assert not torch.equal(detector(fine).map, detector(coarse).map)


def test_gray_is_repeated(detector):
    gray = random_image(100, 90, 0)
    repeated = np.repeat(gray[..., None], 3, axis=-1)
    expected = detector(repeated)
    for image in (gray, gray[..., None]):
        torch.testing.assert_close(detector(image).map, expected.map, rtol=1e-4, atol=1e-4)


def test_alpha_is_composited_on_white(detector):
    image = random_image(130, 150, 4)
    value = torch.from_numpy(image.astype(np.float64) / 255).permute(2, 0, 1)
    composited = value[:3] * value[3:] + (1 - value[3:])
    torch.testing.assert_close(detector(image).map, detector(composited).map, rtol=1e-4, atol=1e-4)
    hidden = image.copy()
    hidden[..., 3] = 0
    other = random_image(130, 150, 4)
    other[..., 3] = 0
    assert torch.equal(detector(hidden).map, detector(other).map)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floating_images(detector, dtype):
    image = random_image(140, 170)
    floating = torch.from_numpy(image).permute(2, 0, 1).to(dtype) / 255
    expected = detector(image)
    for given in (floating, floating[None], floating.numpy(), [floating]):
        torch.testing.assert_close(detector(given).map, expected.map, rtol=1e-4, atol=1e-4)


def test_image_files(detector, tmp_path):
    image = random_image(120, 130)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    expected = detector(image)
    for given in (path, str(path), [path], (str(path),)):
        assert_same(detector(given), expected)


def test_one_pixel_is_an_image(detector):
    pixel = random_image(1, 1)
    detection = detector(pixel)
    assert torch.isfinite(detection.map).all()
    constant = np.broadcast_to(pixel, (128, 160, 3))
    torch.testing.assert_close(detection.map, detector(constant).map, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("height_and_width", [(128, 160), (97, 211)])
def test_batch_is_the_same_as_single_images(detector, height_and_width):
    batch = np.stack([random_image(*height_and_width) for _ in range(2)])
    single = [detector(image) for image in batch]
    for together in (detector(torch.from_numpy(batch)), detector(list(batch))):
        assert torch.equal(together.map, torch.cat([one.map for one in single]))
        assert torch.equal(together.score, torch.cat([one.score for one in single]))


def test_images_of_mixed_kinds_and_sizes(detector, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(random_image(70, 80)).save(path)
    images = [random_image(50, 60, 0), path, torch.rand(1, 200, 10), random_image(40, 41, 4, 16)]
    together = detector(images)
    alone = [detector(image) for image in images]
    assert torch.equal(together.score, torch.cat([one.score for one in alone]))
    assert torch.equal(together.map, torch.cat([one.map for one in alone]))


def test_images_are_read_a_batch_at_a_time(reference):
    read = 0
    read_before_each_batch = []

    class Recording(Detector):
        def maps(self, x):
            read_before_each_batch.append(read)
            return super().maps(x)

    def images():
        nonlocal read
        for image in batch:
            read += 1
            yield image

    batch = [random_image() for _ in range(5)]
    detection = Recording(reference.model, batch_size=2)(images())
    assert read_before_each_batch == [2, 4, 5]
    assert_same(detection, Detector(reference.model, batch_size=16)(batch))


@pytest.mark.parametrize("nothing", [[], (), iter([]), np.empty((0, 9, 9, 3), np.uint8)], ids=repr)
def test_no_image_gives_an_empty_detection(detector, nothing):
    detection = detector(nothing, map_size=(10, 20))
    assert tuple(detection.map.shape) == (0, 1, 10, 20)
    assert tuple(detection.score.shape) == tuple(detection.verdict.shape) == (0,)
    assert detection.verdict.dtype == torch.bool
    local_map, global_map = detector.maps(torch.empty(0, 3, 128, 160))
    assert tuple(local_map.shape) == tuple(global_map.shape) == (0, 1, *feature_grid(128, 160))


def test_verdict_is_a_score_above_the_threshold(reference, detector):
    images = [random_image() for _ in range(3)]
    scores = detector(images).score
    threshold = scores.sort().values[1].item()
    at_median = Detector(dataclasses.replace(reference.model, threshold=threshold))
    detection = at_median(images)
    assert at_median.threshold == detection.threshold == threshold
    assert detection.verdict.tolist() == [score > threshold for score in scores.tolist()]
    assert detection.verdict.sum() == 1
    just_below = float(np.nextafter(threshold, -np.inf))
    lower = Detector(dataclasses.replace(reference.model, threshold=just_below))
    assert lower(images).verdict.sum() == 2


def test_same_image_same_bits(reference, detector, tmp_path):
    images = [random_image(), random_image(77, 99)]
    first = detector(images)
    assert_same(detector(images), first)
    save_model(reference.model, tmp_path / "model")
    loaded = Detector.load(tmp_path / "model")
    assert_same(loaded(images), first)
    assert loaded.threshold == detector.threshold
    assert loaded.input_size == detector.input_size == (128, 160)
    assert loaded.blind_border == detector.blind_border
    assert loaded.device == torch.device("cpu")


def test_maps_are_the_detectors_own(reference, detector):
    """Calibration takes its quantiles from the very bits that detection scores."""
    image = random_image()
    x = normalised(image).float()
    local_map, global_map = detector.maps(x)
    local_a, local_b, global_a, global_b = reference.model.quantiles
    combined = 0.05 * (local_map.double() - local_a) / (local_b - local_a)
    combined += 0.05 * (global_map.double() - global_a) / (global_b - global_a)
    assert_close(detector(image).score, combined.amax(dim=(1, 2, 3)), 1e-5)


def test_results_are_free_of_gradients_and_images_untouched(detector):
    image = torch.rand(3, 128, 160, requires_grad=True)
    before = image.detach().clone()
    detection = detector(image)
    assert not detection.map.requires_grad
    assert not detection.score.requires_grad
    assert torch.equal(image, before)
    x = torch.rand(1, 3, 128, 160)
    before = x.clone()
    detector.maps(x)
    assert torch.equal(x, before)


def test_detector_keeps_no_hold_of_the_model(reference):
    parts = {
        name: {key: value.clone() for key, value in getattr(reference.model, name).items()}
        for name in ("teacher", "student", "autoencoder")
    }
    detector = Detector(dataclasses.replace(reference.model, **parts))
    image = random_image()
    before = detector(image)
    for state in parts.values():
        for value in state.values():
            value.fill_(float("nan"))
    assert_same(detector(image), before)


def test_any_memory_format_of_the_input(detector):
    x = torch.randn(2, 3, 128, 160)
    wide = torch.randn(2, 3, 128, 320)
    wide[..., ::2] = x
    expected = detector.maps(x)
    for given in (x.contiguous(memory_format=torch.channels_last), wide[..., ::2]):
        assert all(map(torch.equal, detector.maps(given), expected))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((3, 9, 9), float("nan")), "the image has values from nan"),
        ([random_image(), torch.full((3, 9, 9), 2.0)], "image 1 has values from 2 to 2"),
        (random_image(9, 9, 2), "1, 3 or 4 channels"),
    ],
)
def test_bad_images_are_errors(detector, images, message):
    with pytest.raises(ValueError, match=message):
        detector(images)


def test_bad_file_is_an_error_with_its_path(detector, tmp_path):
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=r"text\.png cannot be read as an image"):
        detector([random_image(), tmp_path / "text.png"])
    with pytest.raises(FileNotFoundError, match=r"absent\.png does not exist"):
        detector(str(tmp_path / "absent.png"))


def test_bad_arguments_are_errors(reference, detector, monkeypatch):
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        Detector(reference.model, batch_size=0)
    with pytest.raises(ValueError, match="alignment is 'exact'; expected"):
        Detector(reference.model, alignment="exact")
    with pytest.raises(ValueError, match=r"map_size is \(0, 5\); expected a positive"):
        detector(random_image(), map_size=(0, 5))
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 128, 128\); expected \(N, 3, 128,"):
        detector.maps(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match=r"x has element type torch.float64; expected"):
        detector.maps(torch.zeros(1, 3, 128, 160, dtype=torch.float64))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r'device cuda was asked for, .* use "cpu"'):
        Detector(reference.model, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_gives_the_same_maps(reference, detector):
    on_cuda = Detector(reference.model, device="cuda")
    images = [random_image(), random_image(77, 99, 4, 16), torch.rand(1, 200, 100)]
    expected, actual = detector(images), on_cuda(images)
    assert actual.map.device.type == actual.score.device.type == "cuda"
    assert_close(actual.map.cpu(), expected.map.double())
    assert_close(actual.score.cpu(), expected.score.double())
    assert_same(on_cuda(images), actual)
