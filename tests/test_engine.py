"""The engine: its answers on the CPU, and what it refuses."""

from __future__ import annotations

import pickle
import threading
from copy import deepcopy

import pytest
import torch

from efficientad_ext import _registry, reference
from efficientad_ext.engine import Engine

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SIZE = (128, 140)


@pytest.fixture(scope="module")
def networks(reference_networks):
    return reference_networks("small", SIZE)


@pytest.fixture(scope="module")
def engine(networks):
    return Engine(networks.model, precision="float32", batch_size=2, features=True)


def random_bytes(count, size=SIZE):
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8)


def assert_close(actual, expected, relative=1e-5):
    assert actual.shape == expected.shape
    atol = relative * float(expected.abs().max())
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=atol)


def assert_same(one, other):
    assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("map_size", [None, SIZE, (64, 300)])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_map_score_and_features(networks, engine, as_bytes, map_size):
    if as_bytes:
        image = random_bytes(1)
        x = networks.normalised(image)
    else:
        image = torch.randn(1, 3, *SIZE)
        x = image.double()
    output = engine(image, map_size)
    expected_map, expected_score = reference.normalize_and_combine(
        *networks.maps(x), networks.model.quantiles, map_size or SIZE, input_size=SIZE
    )
    assert output.map.dtype == output.score.dtype == output.features.dtype == torch.float32
    assert_close(output.map, expected_map)
    assert_close(output.score, expected_score)
    assert_close(output.features, networks.features(x))
    for actual, expected in zip(engine.maps(image), networks.maps(x), strict=True):
        assert_close(actual, expected)


def test_float64(networks):
    engine = Engine(networks.model, precision="float64")
    planes, pixels = torch.randn(1, 3, *SIZE, dtype=torch.float64), random_bytes(1)
    for given, x in ((planes, planes), (pixels, networks.normalised(pixels))):
        output = engine(given)
        assert output.features is None
        assert output.map.dtype == torch.float64
        assert_close(output.score, networks.combined(x).amax(dim=(1, 2, 3)), 1e-12)
        for actual, expected in zip(engine.maps(given), networks.maps(x), strict=True):
            assert_close(actual, expected, 1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_more_images_than_planned_are_split(engine, count):
    image = random_bytes(count)
    together = engine(image)
    alone = [engine(one[None]) for one in image]
    assert_same(together, map(torch.cat, zip(*alone, strict=True)))
    maps = engine.maps(image)
    assert_same(maps, map(torch.cat, zip(*(engine.maps(one[None]) for one in image), strict=True)))


def test_no_image(engine):
    for image in (random_bytes(0), torch.empty(0, 3, *SIZE)):
        output = engine(image, (5, 6))
        assert [tuple(part.shape) for part in output] == [(0, 1, 5, 6), (0,), (0, 384)]
        assert [tuple(part.shape) for part in engine.maps(image)] == [(0, 1, 24, 27)] * 2


def test_any_strides_and_alignment(engine):
    image = random_bytes(2)
    expected = engine(image)
    wide = torch.zeros(2, SIZE[0], 2 * SIZE[1], 3, dtype=torch.uint8)
    wide[:, :, ::2] = image
    shifted = torch.empty(image.numel() + 1, dtype=torch.uint8)[1:].view(image.shape)
    shifted.copy_(image)
    assert shifted.data_ptr() % 16
    planes = image.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for given in (wide[:, :, ::2], shifted, planes, image.flip(0).flip(0)):
        assert_same(engine(given), expected)
    x = torch.randn(2, 3, *SIZE)
    for given in (x.contiguous(memory_format=torch.channels_last), torch._neg_view(-x)):
        assert_same(engine(given), engine(x))


def test_results_are_free_of_gradients_and_images_untouched(engine):
    x = torch.randn(1, 3, *SIZE, requires_grad=True)
    before = x.detach().clone()
    output = engine(x)
    assert not output.map.requires_grad
    assert torch.equal(x, before)
    # A result is its caller's own.
    kept = [part.clone() for part in output]
    engine(torch.randn(1, 3, *SIZE))
    assert_same(output, kept)


def test_engine_keeps_no_hold_of_the_model(reference_networks):
    model = reference_networks("small", SIZE).model
    engine = Engine(model, precision="bfloat16")
    image = random_bytes(1)
    before = engine(image)
    for network in (model.teacher, model.student, model.autoencoder):
        for parameter in network.values():
            parameter.fill_(float("nan"))
    assert_same(engine(image)[:2], before[:2])


def test_threads_take_turns(engine):
    images = [random_bytes(1 + index % 3) for index in range(6)]
    expected = [engine(image) for image in images]
    actual = [None] * len(images)

    def detect(index):
        actual[index] = engine(images[index])

    threads = [threading.Thread(target=detect, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other)


def test_nan_shows_in_the_score(engine):
    x = torch.randn(2, 3, *SIZE)
    x[1, 0, 60, 60] = float("nan")
    assert engine(x).score.isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("image", "error", "sentence"),
    [
        (random_bytes(1, (140, 128)), ValueError, r"\(1, 140, 128, 3\); expected \(N, 128, 140, 3"),
        (random_bytes(1)[0], ValueError, "the model is for 128x140 pixels: resize it with"),
        (torch.zeros(1, 3, 256, 256), ValueError, r"expected \(N, 3, 128, 140\)"),
        (random_bytes(1).permute(0, 3, 1, 2), ValueError, r"expected \(N, 128, 140, 3\)"),
        (torch.zeros(1, 3, *SIZE).double(), TypeError, "float64; expected torch.uint8, or torch.f"),
        (random_bytes(1).to(torch.uint16), TypeError, "uint16; expected torch.uint8"),
        (random_bytes(1).numpy(), TypeError, "image is a ndarray; expected a torch.Tensor"),
        (torch.zeros(1, 3, *SIZE, device="meta"), ValueError, "on meta and the engine on cpu"),
    ],
)
def test_bad_images(engine, image, error, sentence):
    with pytest.raises(error, match=sentence):
        engine(image)
    with pytest.raises(error, match=sentence):
        engine.maps(image)


def test_bad_map_size(engine):
    for size in ((0, 5), (5,), "large"):
        with pytest.raises(ValueError, match="map_size is"):
            engine(random_bytes(1), size)


def test_a_short_repr(engine):
    assert repr(engine) == "Engine(device='cpu', precision='float32', input_size=(128, 140))"


def test_an_engine_is_not_copied(engine):
    for copy in (deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled; make another one"):
            copy(engine)


def test_bad_settings(networks):
    with pytest.raises(TypeError, match="model is a str; expected a Model, which load_model reads"):
        Engine("model.safetensors", precision="float32")
    with pytest.raises(TypeError, match=r"batch_size is 1\.5; expected a whole number"):
        Engine(networks.model, precision="float32", batch_size=1.5)
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        Engine(networks.model, precision="float32", batch_size=0)
    with pytest.raises(ValueError, match="precision is 'int8'; expected one of 'float64', "):
        Engine(networks.model, precision="int8")
    with pytest.raises(ValueError, match="no kernels for meta; expected the CPU or a CUDA GPU"):
        Engine(networks.model, "meta", precision="float32")
    for precision in ("float64", "float32"):
        with pytest.raises(ValueError, match=f'no precision "{precision}" on CUDA; choose "tf32"'):
            Engine(networks.model, "cuda", precision=precision)
    with pytest.raises(ValueError, match=r'"tf32" is for CUDA devices; on cpu, choose "float32"'):
        Engine(networks.model, precision="tf32")


def test_weights_that_overflow(reference_networks):
    model = reference_networks("small", SIZE).model
    model.teacher_deviation[7] = 1e-7
    with pytest.raises(ValueError, match=r"more than float16 holds .* use bfloat16"):
        Engine(model, precision="float16")
    Engine(model, precision="bfloat16")


def test_too_little_memory(networks):
    # More than a processor can address.
    with pytest.raises(RuntimeError, match=r"needs \d+ MB on cpu for batch_size .* smaller batch"):
        Engine(networks.model, precision="float32", batch_size=10**9)


def test_a_gpu_that_is_too_old(networks, monkeypatch):
    monkeypatch.setattr(_registry, "backend_of", lambda _device: _registry.CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Old GPU")
    with pytest.raises(RuntimeError, match=r"Old GPU has compute capability 7\.5; .* least 8\.0"):
        Engine(networks.model, "cuda:0", precision="float16")


def test_without_cuda_kernels(networks, monkeypatch):
    monkeypatch.setattr(_registry._C, "cuda", None)
    with pytest.raises(RuntimeError, match="built without CUDA kernels"):
        Engine(networks.model, "cuda", precision="float16")


@pytest.fixture(scope="module", params=["float16", "bfloat16", "tf32"])
def cuda_engine(networks, request):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return Engine(networks.model, "cuda", precision=request.param, batch_size=2, features=True)


def cuda_bytes(count):
    return random_bytes(count).cuda()


def test_cuda_against_float64(networks, cuda_engine):
    image = cuda_bytes(3)
    x = networks.normalised(image.cpu())
    for _ in ("launched", "replayed"):
        for actual, expected in zip(cuda_engine.maps(image), networks.maps(x), strict=True):
            assert_close(actual.cpu(), expected, 4e-2)
        output = cuda_engine(image)
        assert_close(output.score.cpu(), networks.combined(x).amax(dim=(1, 2, 3)), 4e-2)
        assert_close(output.features.cpu(), networks.features(x), 4e-2)


def test_cuda_repeats_its_bits(cuda_engine):
    """Launched or replayed, on whatever stream, from whatever thread."""
    images = [cuda_bytes(1 + index % 2) for index in range(8)]
    expected = [cuda_engine(image) for image in images]
    torch.cuda.synchronize()
    failures = []

    def detect(offset):
        with torch.cuda.stream(torch.cuda.Stream()):
            for index in range(8):
                at = (index + offset) % 8
                output = cuda_engine(images[at])
                torch.cuda.current_stream().synchronize()
                if not all(map(torch.equal, output, expected[at])):
                    failures.append((offset, at))

    threads = [threading.Thread(target=detect, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_cuda_within_somebody_elses_graph(cuda_engine):
    image, other = cuda_bytes(2), cuda_bytes(2)
    expected, other_expected = cuda_engine(image), cuda_engine(other)
    graph = torch.cuda.CUDAGraph()
    still = image.clone()
    with torch.cuda.graph(graph):
        output = cuda_engine(still)
    for given, wanted in ((image, expected), (other, other_expected)):
        still.copy_(given)
        graph.replay()
        cuda_engine(other)
        assert_same(output, wanted)


def test_cuda_refuses_what_is_elsewhere(cuda_engine):
    with pytest.raises(ValueError, match="image is on cpu and the engine on cuda:0"):
        cuda_engine(random_bytes(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_without_enough_memory(networks):
    with pytest.raises(RuntimeError, match=r"needs \d+ MB on cuda:0 .* smaller batch_size"):
        Engine(networks.model, "cuda", precision="float16", batch_size=10**6)
