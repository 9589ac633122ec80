"""The detector against a float64 composition in plain torch, and its contracts."""

from __future__ import annotations

import dataclasses
import pickle
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from efficientad_ext import detector as detector_module
from efficientad_ext.architecture import feature_grid
from efficientad_ext.detector import Detection, Detector
from efficientad_ext.engine import Engine
from efficientad_ext.inference import Networks
from efficientad_ext.model_file import save_model
from efficientad_ext.puad import Normalisation, Puad


@pytest.fixture(scope="module")
def reference(reference_networks):
    return reference_networks("small", (128, 160))


@pytest.fixture(scope="module")
def detector(reference) -> Detector:
    return Detector(reference.model, precision="float32")


def random_image(height: int = 128, width: int = 160, channels: int = 3, bits: int = 8):
    dtype = np.uint8 if bits == 8 else np.uint16
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng().integers(0, 2**bits, shape, dtype=dtype)


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
def test_maps_are_those_of_the_method(reference_networks, size, input_size):
    reference = reference_networks(size, input_size)
    x = torch.randn(1, 3, *input_size)
    actual = Detector(reference.model, precision="float32").maps(x)
    for actual_map, expected_map in zip(actual, reference.maps(x), strict=True):
        assert actual_map.dtype == torch.float32
        assert tuple(actual_map.shape) == (len(x), 1, *feature_grid(*input_size))
        assert_close(actual_map, expected_map)


def test_score_and_map_are_pixel_exact(reference, detector):
    image = random_image()
    combined = reference.combined(reference.normalised(image))
    detection = detector(image)
    assert detection.picturable_score.dtype == detection.map.dtype == torch.float32
    assert torch.equal(detection.score, detection.picturable_score.double())
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
    detector = Detector(reference.model, precision="float32", alignment="paper")
    padded = functional.pad(reference.combined(reference.normalised(image)), (4, 4, 4, 4))
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


def test_images_of_pillow(detector, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    colour = Image.fromarray(random_image(120, 130))
    colour.save(tmp_path / "turned.jpg", exif=turned)
    colour.quantize(8).save(tmp_path / "palette.png", transparency=3)
    Image.fromarray(random_image(120, 130, 4)).save(tmp_path / "alpha.png")
    Image.fromarray(random_image(120, 130, 0, bits=16)).save(tmp_path / "16 bits.png")
    paths = sorted(tmp_path.iterdir())
    expected = detector(paths)
    with ExitStack() as files:
        opened = [files.enter_context(Image.open(path)) for path in paths]
        assert_same(detector(opened), expected)
        assert_same(detector(opened[0]), detector(paths[0]))
    assert_same(detector(colour), detector(np.array(colour)))


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
        def _detect(self, x, size):
            read_before_each_batch.append(read)
            return super()._detect(x, size)

    def images():
        nonlocal read
        for image in batch:
            read += 1
            yield image

    batch = [random_image() for _ in range(5)]
    detection = Recording(reference.model, precision="float32", batch_size=2)(images())
    assert read_before_each_batch == [2, 4, 5]
    assert_same(detection, Detector(reference.model, precision="float32", batch_size=16)(batch))


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
    at_median = Detector(
        dataclasses.replace(reference.model, threshold=threshold), precision="float32"
    )
    detection = at_median(images)
    assert at_median.threshold == detection.threshold == threshold
    assert detection.verdict.tolist() == [score > threshold for score in scores.tolist()]
    assert detection.verdict.sum() == 1
    just_below = float(np.nextafter(threshold, -np.inf))
    lower = Detector(
        dataclasses.replace(reference.model, threshold=just_below), precision="float32"
    )
    assert lower(images).verdict.sum() == 2


def test_a_score_that_is_no_number_lets_no_part_pass(reference):
    """Infinite features, as an overflow gives them, and so a map of NaN."""
    student = dict(reference.model.student)
    bias = list(student)[-1]
    student[bias] = torch.full_like(student[bias], 3e38)
    detection = Detector(
        dataclasses.replace(reference.model, student=student), precision="float32"
    )(random_image())
    assert not detection.score.isfinite()
    assert detection.verdict.tolist() == [True]
    nan = Detector(dataclasses.replace(reference.model, student=student), precision="float32")
    nan._combine = lambda local_map, _global_map, size: (
        torch.full((1, 1, *size), torch.nan),
        torch.full((len(local_map),), torch.nan),
    )
    assert nan(random_image()).verdict.tolist() == [True]


def test_same_image_same_bits(reference, detector, tmp_path):
    images = [random_image(), random_image(77, 99)]
    first = detector(images)
    assert_same(detector(images), first)
    save_model(reference.model, tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", precision="float32")
    assert_same(loaded(images), first)
    assert loaded.threshold == detector.threshold
    assert loaded.input_size == detector.input_size == (128, 160)
    assert loaded.blind_border == detector.blind_border
    assert loaded.device == torch.device("cpu")


def test_maps_are_the_detectors_own(reference, detector):
    """Calibration takes its quantiles from the very bits that detection scores."""
    image = random_image()
    x = reference.normalised(image).float()
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
    detector = Detector(dataclasses.replace(reference.model, **parts), precision="float32")
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


def test_a_short_repr(detector):
    assert repr(detector) == "Detector(device='cpu', precision='float32', input_size=(128, 160))"


def test_a_batch_size_of_numpy(reference):
    Detector(reference.model, batch_size=np.int64(3))([random_image()])


def test_bad_arguments_are_errors(reference, detector, monkeypatch):
    with pytest.raises(TypeError, match=r"model is a \w*Path; expected a Model, which load"):
        Detector(Path("model.safetensors"))
    for batch_size in (1.5, "2", None):
        with pytest.raises(TypeError, match=f"batch_size is {batch_size!r}; expected a whole num"):
            Detector(reference.model, batch_size=batch_size)
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


@pytest.mark.parametrize(
    ("device", "multiplies", "precision", "chosen"),
    [
        ("cpu", "avx2", "auto", ("engine", "float32", 1)),
        ("cpu", "avx512_bf16", "auto", ("engine", "float32", 1)),
        ("cpu", "amx_bf16", "auto", ("engine", "bfloat16", 1)),
        ("cpu", "amx_fp16", "auto", ("engine", "float16", 1)),
        ("cpu", None, "float32", ("engine", "float32", 1)),
        ("cpu", None, "bfloat16", ("engine", "bfloat16", 1)),
        ("cpu", None, "float16", ("engine", "float16", 1)),
        ("cuda", (8, 0), "auto", ("engine", "float16", 5)),
        ("cuda", (9, 0), "float32", ("torch", torch.float32, 5)),
        ("cuda", (9, 0), "tf32", ("engine", "tf32", 5)),
        ("cuda", (9, 0), "float16", ("engine", "float16", 5)),
        ("cuda", (9, 0), "bfloat16", ("engine", "bfloat16", 5)),
    ],
)
def test_what_runs_the_networks(monkeypatch, device, multiplies, precision, chosen):
    """By the CPU's instruction set, or the GPU's compute capability."""
    monkeypatch.setattr(detector_module, "IN_USE", multiplies)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: multiplies)
    monkeypatch.setattr(
        detector_module,
        "Engine",
        lambda _model, _device, *, precision, batch_size, features: (
            ("engine", precision, batch_size) if features else None
        ),
    )
    monkeypatch.setattr(
        detector_module,
        "Networks",
        lambda _model, _device, dtype, images_per_pass: ("torch", dtype, images_per_pass),
    )
    model = SimpleNamespace(largest_activation=None)
    assert detector_module._networks(model, torch.device(device), precision, 5) == chosen


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize(
    ("largest", "chosen"), [(None, "float16"), (8188.0, "float16"), (8189.0, "bfloat16")]
)
def test_auto_leaves_room_below_float16s_largest_number(monkeypatch, device, largest, chosen):
    monkeypatch.setattr(detector_module, "IN_USE", "amx_fp16")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    model = SimpleNamespace(largest_activation=largest)
    assert detector_module._auto_precision(model, torch.device(device)) == chosen


def test_a_detector_is_not_copied(reference):
    detector = Detector(reference.model)
    for copy in (deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled; load its model file"):
            copy(detector)


def test_precisions_that_cannot_be(reference):
    with pytest.raises(ValueError, match="precision is 'half'; expected one of \"auto\", "):
        Detector(reference.model, precision="half")
    message = 'precision "tf32" is for CUDA devices; on cpu, choose "float32", "float16" or '
    with pytest.raises(ValueError, match=message):
        Detector(reference.model, precision="tf32")


def test_the_precision_is_told(reference, detector):
    assert detector.precision == "float32"
    assert EngineOnTheCpu(reference.model).engine.precision == "float32"


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    # Weights and feature maps of ten layers rounded to 8 or 11 bits, twice in a square.
    [("bfloat16", 4e-2), ("float16", 5e-3)],
)
def test_half_precisions_on_the_cpu(reference, precision, tolerance):
    image = random_image()
    x = reference.normalised(image).float()
    detector = Detector(reference.model, precision=precision)
    assert detector.precision == precision
    for actual, expected in zip(detector.maps(x), reference.maps(x), strict=True):
        assert actual.dtype == torch.float32
        assert_close(actual, expected, tolerance)
    assert_same(detector(image), detector([image]))


class EngineOnTheCpu:
    """Detectors as they are on CUDA, but with an engine that runs on the CPU in float32."""

    def __init__(self, model):
        self.given = []
        given = self.given

        class Recording(Engine):
            def __call__(self, image, map_size=None):
                given.append((image.dtype, len(image)))
                return super().__call__(image, map_size)

        self.engine = Recording(model, precision="float32", batch_size=2, features=True)


@pytest.fixture
def on_engine(reference, monkeypatch):
    on_cpu = EngineOnTheCpu(reference.model)
    monkeypatch.setattr(detector_module, "_networks", lambda *_: on_cpu.engine)
    return on_cpu


def test_the_engine_gets_bytes_where_it_can(reference, detector, on_engine):
    images = [
        random_image(),
        torch.from_numpy(random_image()),
        random_image(77, 99),
        random_image(channels=0),
        random_image(channels=4),
        random_image(bits=16),
        torch.rand(3, 128, 160),
        random_image(),
    ]
    expected = detector(images, map_size=(50, 60))
    actual = Detector(reference.model)(images, map_size=(50, 60))
    assert on_engine.given == [(torch.uint8, 2), (torch.float32, 5), (torch.uint8, 1)]
    assert_close(actual.map, expected.map.double())
    assert_close(actual.score, expected.score.double())
    alone = [Detector(reference.model)(image, map_size=(50, 60)) for image in images]
    assert torch.equal(torch.cat([one.map for one in alone]), actual.map)


def test_the_engines_maps(reference, on_engine):
    x = torch.randn(3, 3, 128, 160)
    detector = Detector(reference.model)
    for actual, expected in zip(detector.maps(x), reference.maps(x), strict=True):
        assert_close(actual, expected)
    local_map, global_map = detector.maps(x[:0])
    assert local_map.shape == global_map.shape == (0, 1, *feature_grid(128, 160))
    assert on_engine.given == []


def test_the_papers_alignment_on_the_engine(reference, on_engine):
    image = random_image()
    detection = Detector(reference.model, alignment="paper")(image)
    padded = functional.pad(reference.combined(reference.normalised(image)), (4, 4, 4, 4))
    assert_close(detection.map, functional.interpolate(padded, (128, 160), mode="bilinear"))
    # The engine is called for the features alone.
    assert on_engine.given == [(torch.float32, 1)]


@pytest.mark.parametrize("alignment", ["pixel_exact", "paper"])
@pytest.mark.parametrize("source", ["student", "teacher"])
def test_puad_on_the_engine_and_on_torch(reference, alignment, source):
    random = torch.Generator().manual_seed(torch.seed() % 2**63)
    spread = torch.randn(384, 384, generator=random, dtype=torch.float64) / 20
    puad = Puad(
        torch.randn(384, generator=random, dtype=torch.float64) / 10,
        torch.linalg.cholesky(spread @ spread.T + torch.eye(384, dtype=torch.float64) / 10),
        Normalisation(0.2, 0.1),
        Normalisation(20.0, 3.0),
        (0.7, 1.3),
        source,
    )
    model = dataclasses.replace(reference.model, puad=puad)
    image = random_image()
    features = reference.features(reference.normalised(image), source)
    covariance = puad.factor @ puad.factor.T
    centred = features - puad.mean
    distance = (centred @ torch.linalg.inv(covariance) @ centred.T).diagonal().sqrt()
    on_engine = EngineOnTheCpu(model).engine
    for networks in (on_engine, Networks(model, torch.device("cpu"), torch.float32, 1)):
        detector = Detector(model, alignment=alignment)
        detector._networks = networks
        detection = detector(image)
        assert_close(detection.unpicturable_score, distance)
        picturable = detection.picturable_score.double()
        final = 0.7 * (picturable - 0.2) / 0.1 + 1.3 * (distance - 20.0) / 3.0
        assert_close(detection.score, final)
        assert torch.equal(detection.verdict, detection.score > model.threshold)
        assert_close(detector.features(reference.normalised(image).float()), features)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(
    ("precision", "relative"),
    [("float32", 1e-4), ("tf32", 1e-2), ("float16", 1e-2), ("bfloat16", 8e-2)],
)
def test_cuda_gives_the_same_maps(reference, detector, precision, relative):
    on_cuda = Detector(reference.model, device="cuda", precision=precision)
    images = [random_image(), random_image(77, 99, 4, 16), torch.rand(1, 200, 100)]
    expected, actual = detector(images), on_cuda(images)
    assert actual.map.device.type == actual.score.device.type == "cuda"
    assert_close(actual.map.cpu(), expected.map.double(), relative)
    assert_close(actual.score.cpu(), expected.score.double(), relative)
    assert_same(on_cuda(images), actual)
