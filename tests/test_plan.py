"""The plan against the method written out in float64, phase by phase."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from efficientad_ext import _C, _emulation, _registry, reference
from efficientad_ext._execution import aligned_bytes
from efficientad_ext.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN

pytestmark = pytest.mark.usefixtures("poisoned_memory")

PHASES = ("image", "networks", "autoencoder", "local_map", "global_map", "features")
CPU = _registry.CPU


def convolutions_of(network):
    parameters = list(network.values())
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def pack(model, dtype, tf32=False, kernels=_C.cpu, source="student"):
    return kernels.pack_weights(
        convolutions_of(model.teacher),
        convolutions_of(model.student),
        convolutions_of(model.autoencoder),
        model.teacher_mean,
        model.teacher_deviation,
        IMAGENET_MEAN,
        IMAGENET_DEVIATION,
        source,
        str(dtype).removeprefix("torch."),
        tf32,
    )


class Run:
    """A plan on images, phase by phase, over a workspace that holds NaN at first."""

    def __init__(
        self, networks, dtype, images, *, backend=CPU, device="cpu", tf32=False, source="student"
    ):
        self.backend, self.images = backend, images.to(device)
        self.device = self.images.device
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.networks = networks
        layout, packed = pack(networks.model, dtype, tf32, backend.kernels, source)
        kind = str(images.dtype).removeprefix("torch.")
        self.plan = backend.kernels.plan(layout, len(images), *networks.input_size, kind, True)
        self.weights, self.workspace = aligned_bytes(
            self.device, len(packed), self.plan.workspace_bytes
        )
        self.weights.copy_(torch.frombuffer(packed, dtype=torch.uint8))
        self.workspace.fill_(0xFF)

    def __call__(self, *phases):
        for phase in phases:
            image = self.images if phase == "image" else None
            context = self.backend.context(self.device)
            self.plan.run(context, phase, self.weights, self.workspace, image)
        return self

    def _array(self, offset, *shape):
        numbers = self.workspace[offset:].view(self.dtype)
        return numbers[: torch.Size(shape).numel()].view(shape).clone()

    @property
    def planes(self):
        shape = (self.plan.planes, len(self.images), 1, *self.plan.grid)
        return tuple(
            self._array(offset, *shape)
            for offset in (self.plan.local_planes, self.plan.global_planes)
        )

    @property
    def maps(self):
        return tuple(planes.sum(0) for planes in self.planes)

    @property
    def features(self):
        return self._array(self.plan.features, len(self.images), 384)

    def combined(self, size):
        count = len(self.images)
        combined = torch.empty(count, 1, *size, dtype=self.dtype, device=self.device)
        score = torch.empty(count, dtype=self.dtype, device=self.device)
        quantiles = self.networks.model.quantiles
        # Feature i lies at pixel 16 + 4 i.
        axis = (0.25, -4.0)
        context = self.backend.context(self.device)
        self.plan.combine(
            context, self.workspace, quantiles[:2], quantiles[2:], axis, axis, combined, score
        )
        return combined, score


def random_images(count, height, width, dtype):
    if dtype == torch.uint8:
        return torch.randint(0, 256, (count, height, width, 3), dtype=dtype)
    return torch.randn(count, 3, height, width, dtype=dtype)


def normalised(networks, images):
    return networks.normalised(images) if images.dtype == torch.uint8 else images.double()


def assert_close(actual, expected, relative):
    assert actual.shape == expected.shape
    atol = relative * float(expected.abs().max())
    torch.testing.assert_close(actual.double().cpu(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("size", "input_size", "count", "image_type"),
    [
        ("small", (256, 256), 1, torch.uint8),
        ("small", (256, 256), 1, torch.float64),
        ("small", (128, 160), 3, torch.float64),
        ("small", (33, 46), 2, torch.float64),
        ("medium", (131, 57), 1, torch.float64),
    ],
)
def test_every_identity_is_exact(reference_networks, size, input_size, count, image_type):
    """Folded normalisations, fused differences and pooled features, in float64."""
    networks = reference_networks(size, input_size)
    images = random_images(count, *input_size, image_type)
    run = Run(networks, torch.float64, images)(*PHASES)
    x = normalised(networks, images)
    for actual, expected in zip(run.maps, networks.maps(x), strict=True):
        assert_close(actual, expected, 1e-12)
    assert_close(run.features, networks.features(x), 1e-12)
    expected_map, expected_score = reference.normalize_and_combine(
        *networks.maps(x), networks.model.quantiles, input_size
    )
    combined, score = run.combined(input_size)
    assert_close(combined, expected_map, 1e-12)
    assert_close(score, expected_score, 1e-12)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_pooled_features_of_the_teacher_are_exact(reference_networks, size):
    networks = reference_networks(size, (57, 70))
    images = random_images(2, 57, 70, torch.float64)
    run = Run(networks, torch.float64, images, source="teacher")(*PHASES)
    assert_close(run.features, networks.features(images, "teacher"), 1e-12)
    # The maps are the same, the global one too, which shares the student's segment.
    for actual, expected in zip(run.maps, networks.maps(images), strict=True):
        assert_close(actual, expected, 1e-12)


# Float32: hundreds of roundings in each of ten layers. The short types round weights and feature
# maps to 11 and 8 bits: errors of 2^-12 and 2^-9 in each layer, independent and of either sign,
# that grow with the square root of the number of layers, and twice in a square.
RELATIVE_ERRORS = {torch.float32: 5e-6, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@pytest.mark.parametrize("image_type", [torch.uint8, torch.float32])
@pytest.mark.parametrize("input_size", [(256, 256), (140, 97)])
@pytest.mark.parametrize("dtype", RELATIVE_ERRORS, ids=str)
def test_short_types(reference_networks, dtype, input_size, image_type):
    networks = reference_networks("small", input_size)
    images = random_images(1, *input_size, image_type)
    run = Run(networks, dtype, images)(*PHASES)
    x = normalised(networks, images)
    expected = (*networks.maps(x), networks.features(x))
    for one, expected_one in zip((*run.maps, run.features), expected, strict=True):
        assert_close(one, expected_one, RELATIVE_ERRORS[dtype])


@pytest.mark.parametrize(
    ("size", "source"), [("small", "student"), ("small", "teacher"), ("medium", "student")]
)
def test_every_backend(backend, kernels, reference_networks, size, source):
    """Whole networks by every backend's kernels, on images that hold few features."""
    chosen = kernels("segment_convolution")
    networks = reference_networks(size, (41, 38))
    images = random_images(1, 41, 38, torch.uint8)
    run = Run(networks, torch.float16, images, backend=chosen, device=backend, source=source)
    run(*PHASES)
    x = normalised(networks, images)
    expected = (*networks.maps(x), networks.features(x, source))
    for one, expected_one in zip((*run.maps, run.features), expected, strict=True):
        assert_close(one, expected_one, RELATIVE_ERRORS[torch.float16])


@pytest.mark.parametrize(
    ("capability", "dtype"), [(80, torch.bfloat16), (90, torch.bfloat16), (80, torch.float32)]
)
def test_emulated_gpu(reference_networks, capability, dtype):
    """The kernels for either generation of tensor cores, float32 as tf32."""
    networks = reference_networks("small", (33, 37))
    images = random_images(1, 33, 37, torch.float32)
    _emulation.set_compute_capability(capability)
    try:
        emulated = _registry.Backend(_emulation, lambda _device: 1)
        tf32 = dtype == torch.float32
        run = Run(networks, dtype, images, backend=emulated, tf32=tf32)(*PHASES)
    finally:
        _emulation.set_compute_capability(90)
    expected = (*networks.maps(images), networks.features(images))
    # The numbers that tensor cores make of float32 have the digits of float16.
    error = RELATIVE_ERRORS[torch.float16 if tf32 else dtype]
    for one, expected_one in zip((*run.maps, run.features), expected, strict=True):
        assert_close(one, expected_one, error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_emulated_amx(reference_networks, dtype):
    networks = reference_networks("small", (41, 38))
    images = random_images(1, 41, 38, torch.uint8)
    emulated = _registry.Backend(_emulation.amx, lambda _device: torch.get_num_threads())
    run = Run(networks, dtype, images, backend=emulated)(*PHASES)
    x = normalised(networks, images)
    expected = (*networks.maps(x), networks.features(x))
    for one, expected_one in zip((*run.maps, run.features), expected, strict=True):
        assert_close(one, expected_one, RELATIVE_ERRORS[dtype])


def test_phases_in_any_order_that_their_inputs_allow(reference_networks):
    """The autoencoder shares no memory with the PDN, so that they can run at the same time."""
    networks = reference_networks("small", (50, 61))
    images = random_images(2, 50, 61, torch.uint8)
    expected = Run(networks, torch.float32, images)(*PHASES)
    for order in (
        ("image", "autoencoder", "networks", "features", "global_map", "local_map"),
        ("image", "networks", "local_map", "features", "autoencoder", "global_map"),
    ):
        run = Run(networks, torch.float32, images)(*order)
        assert all(map(torch.equal, run.planes, expected.planes))
        assert torch.equal(run.features, expected.features)


def test_an_image_does_not_depend_on_its_batch(reference_networks):
    networks = reference_networks("small", (45, 52))
    images = random_images(3, 45, 52, torch.uint8)
    together = Run(networks, torch.bfloat16, images)(*PHASES)
    for index in range(3):
        alone = Run(networks, torch.bfloat16, images[index : index + 1])(*PHASES)
        for one, all_of_them in zip(alone.planes, together.planes, strict=True):
            assert torch.equal(one[:, 0], all_of_them[:, index])


def test_a_run_repeats_itself(reference_networks):
    """Whatever an earlier run has left in the workspace."""
    networks = reference_networks("medium", (37, 41))
    run = Run(networks, torch.float16, random_images(1, 37, 41, torch.float32))(*PHASES)
    expected = run.planes
    assert all(map(torch.equal, run(*PHASES).planes, expected))


def test_without_features(reference_networks):
    networks = reference_networks("small", (40, 40))
    images = random_images(1, 40, 40, torch.uint8)
    layout, _ = pack(networks.model, torch.float32)
    run = Run(networks, torch.float32, images)
    with_features = run.plan.workspace_bytes
    run.plan = CPU.kernels.plan(layout, 1, 40, 40, "uint8", False)
    assert run.plan.workspace_bytes < with_features
    run(*PHASES)
    for actual, expected in zip(run.maps, networks.maps(normalised(networks, images)), strict=True):
        assert_close(actual, expected, 5e-6)


def test_tf32_weights(reference_networks):
    """Rounded to 10 bits behind the point, but for what no tensor core multiplies."""
    model = reference_networks("small", (40, 40)).model
    packed = torch.frombuffer(pack(model, torch.float32, True, _emulation)[1], dtype=torch.float32)
    is_rounded = (packed.view(torch.int32) & 0x1FFF) == 0
    # Biases stay exact, and so do the student's last layer's 384 x 16 x 256 weights for PUAD.
    assert (~is_rounded).sum() > 0.99 * 384 * 16 * 256
    assert is_rounded.sum() > 0.99 * (len(packed) - 384 * 16 * 256)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounding_keeps_the_sum_of_a_filter(reference_networks, dtype):
    """What is taken from a weight is given to the next one: equal ones are rounded both ways."""
    model = reference_networks("small", (40, 40)).model
    thirds = {
        name: {key: torch.full_like(value, 1 / 3) for key, value in getattr(model, name).items()}
        for name in ("teacher", "student", "autoencoder")
    }
    deviation = torch.ones_like(model.teacher_deviation)
    _, packed = pack(changed(model, **thirds, teacher_deviation=deviation), dtype)
    # At the end, in float32, are the student's last layer's 384 x 16 x 256 weights for PUAD.
    numbers = torch.frombuffer(packed[: -4 * 384 * 17 * 256], dtype=dtype).double().abs()
    to_nearest = abs(float(torch.tensor(1 / 3, dtype=dtype)) - 1 / 3)
    third = numbers[(numbers - 1 / 3).abs() < 2.01 * to_nearest]
    assert len(third) > 7_000_000
    assert abs(float(third.mean()) - 1 / 3) < to_nearest / 100


@pytest.mark.parametrize(
    ("dtype", "deviation", "sentence"),
    [
        (torch.float16, 1e-7, r"last layers .* reach \d+.* more than float16 holds .* bfloat16"),
        (torch.bfloat16, 1e-42, r"last layers .* check the teacher's mean and deviation"),
        (torch.float32, 1e-42, r"last layers .* check the teacher's mean and deviation"),
    ],
    ids=str,
)
def test_weights_that_overflow(reference_networks, dtype, deviation, sentence):
    networks = reference_networks("small", (40, 40))
    networks.model.teacher_deviation[5] = deviation
    with pytest.raises(ValueError, match=sentence):
        pack(networks.model, dtype)
    if dtype == torch.float16:
        pack(networks.model, torch.bfloat16)


def changed(model, **parts):
    return SimpleNamespace(**(vars(model) | parts))


def test_networks_that_are_not_efficientads(reference_networks):
    model = reference_networks("small", (128, 128)).model
    cut = dict(list(model.student.items())[:-2])
    for parts in ({"student": cut}, {"autoencoder": model.teacher}, {"student": model.teacher}):
        with pytest.raises(ValueError, match="layers are not those of EfficientAD's networks"):
            pack(changed(model, **parts), torch.float32)
    with pytest.raises(ValueError, match="one number for each of the teacher's channels"):
        pack(changed(model, teacher_mean=torch.zeros(3)), torch.float32)
    with pytest.raises(ValueError, match="no layers"):
        pack(changed(model, teacher={}), torch.float32)
    with pytest.raises(ValueError, match="no network of that name to take PUAD's feature from"):
        pack(model, torch.float32, source="autoencoder")
    double = {key: value.double() for key, value in model.teacher.items()}
    with pytest.raises(TypeError, match="parameters of float32 in the CPU's memory"):
        pack(changed(model, teacher=double), torch.float32)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 40, 40, "uint8", False), "at least one image"),
        ((1, 32, 40, "uint8", False), "at least 33x33"),
        ((1, 40, 40, "float64", False), "neither bytes nor"),
        ((1, 40, 40, "int8", False), "no element type"),
    ],
)
def test_plans_that_cannot_be(reference_networks, arguments, sentence):
    layout, _ = pack(reference_networks("small", (40, 40)).model, torch.float32)
    with pytest.raises(ValueError, match=sentence):
        CPU.kernels.plan(layout, *arguments)


def test_bytes_in_float64_are_not_resized(reference_networks):
    layout, _ = pack(reference_networks("small", (40, 40)).model, torch.float64)
    with pytest.raises(ValueError, match="in float64, bytes cannot be resized"):
        CPU.kernels.plan(layout, 1, 40, 40, "uint8", False)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"phase": "combine"}, ValueError, "no phase"),
        ({"weights": lambda memory: memory[:-1]}, ValueError, "needs more memory"),
        ({"workspace": lambda memory: memory[:-1]}, ValueError, "needs more memory"),
        ({"workspace": lambda memory: memory.view(torch.float32)}, ValueError, "more memory"),
        ({"workspace": lambda memory: memory.repeat(2)[1:]}, ValueError, "not aligned"),
        ({"image": lambda image: image.float()}, TypeError, "another element type"),
        ({"image": lambda image: image[:, 1:]}, ValueError, "another number of elements"),
        ({"image": lambda image: image.transpose(1, 2)}, ValueError, "contiguous"),
        ({"image": lambda _: None}, TypeError, "expected a torch.Tensor"),
    ],
)
def test_what_would_leave_a_tensor_is_refused(reference_networks, change, error, sentence):
    networks = reference_networks("small", (40, 40))
    run = Run(networks, torch.float32, random_images(1, 40, 40, torch.uint8))
    arguments = {
        "phase": "image",
        "weights": run.weights,
        "workspace": run.workspace,
        "image": run.images,
    }
    for name, value in change.items():
        arguments[name] = value(arguments[name]) if callable(value) else value
    with pytest.raises(error, match=sentence):
        run.plan.run(1, *arguments.values())
