"""The compiled modules below the ops: what they refuse, and tensors without an exchange table."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import efficientad_ext
from efficientad_ext import _C, _emulation, ops, reference


class AttributesOnly:
    """A tensor as torch versions without the DLPack exchange table show it."""

    def __init__(self, tensor):
        self._tensor = tensor

    def __getattr__(self, name):
        return getattr(self._tensor, name)


def maps():
    return torch.randn(2, 5, 4, 3), torch.randn(2, 5, 4, 3), torch.empty(2, 1, 4, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_without_an_exchange_table(dtype):
    a, b, output = (tensor.to(dtype) for tensor in maps())
    _C.cpu.squared_difference_map(1, *map(AttributesOnly, (a, b, output)))
    assert torch.equal(output, ops.squared_difference_map(a, b))
    image = torch.randint(0, 256, (1, 3, 6, 7), dtype=torch.uint8)
    resized = torch.empty(1, 3, 4, 4)
    colours = [(0.0,) * 3, (1.0,) * 3, (1.0,) * 3]
    _C.cpu.resize_normalize(1, AttributesOnly(image), 1 / 255, *colours, AttributesOnly(resized))
    expected = reference.resize_normalize(image[0].movedim(0, -1), (4, 4), mean=(0,) * 3)
    torch.testing.assert_close(
        resized, expected * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    )


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda a, b, o: (a, b.double(), o), TypeError, "another element type"),
        (lambda a, b, o: (a, b[:1], o), ValueError, "another number of elements"),
        (lambda a, b, o: (a, b.reshape(2, 5, 3, 4), o), ValueError, "differ in shape"),
        (lambda a, b, o: (a, b, o[:1]), ValueError, "another number of elements"),
        (lambda a, b, o: (a.to(memory_format=torch.channels_last), b, o), ValueError, "layout"),
        (lambda a, b, o: (a.flip(3)[..., ::1].transpose(1, 2), b, o), ValueError, "layout|shape"),
        (lambda a, b, o: (a[0], b, o), ValueError, "4 dimensions"),
        (lambda a, b, o: (a[None], b, o), ValueError, "more than 4 dimensions"),
        (lambda a, b, o: (a.int(), b, o), TypeError, "not supported"),
        (lambda _, b, o: ("tensor", b, o), TypeError, "expected a torch.Tensor"),
    ],
)
def test_what_would_leave_a_tensor_is_refused(change, error, sentence):
    with pytest.raises(error, match=sentence):
        _C.cpu.squared_difference_map(1, *change(*maps()))


@pytest.mark.parametrize(
    ("kernel", "arguments", "sentence"),
    [
        ("relu_pool", ((1, 1, 6, 64), -1, (1, 1, 2, 31)), "neither 0 nor 1"),
        ("relu_pool", ((1, 1, 6, 64), 2, (1, 1, 5, 34)), "neither 0 nor 1"),
        ("relu_pool", ((1, 1, 0, 8), 1, (1, 1, 1, 5)), "output does not fit"),
        ("relu_pool_gradient", ((1, 1, 6, 64), (1, 1, 2, 31), -1, (1, 1, 6, 64)), "neither 0 nor"),
    ],
)
def test_pooling_stays_within_its_maps(kernel, arguments, sentence):
    tensors = [torch.zeros(one) if isinstance(one, tuple) else one for one in arguments]
    with pytest.raises(ValueError, match=sentence):
        getattr(_C.cpu, kernel)(1, *tensors)


@pytest.mark.parametrize(
    ("padding", "pool_padding", "output", "sentence"),
    [
        (-1, 0, (1, 1, 1, 1), "padding is negative"),
        (0, 2, (1, 1, 4, 4), "neither 0 nor 1"),
        (0, 1, (1, 1, 1, 1), "output does not fit"),
    ],
)
def test_convolution_and_pooling_stay_within_their_maps(padding, pool_padding, output, sentence):
    kernel = 4 if pool_padding == 1 else 1
    arguments = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, kernel, kernel), None
    with pytest.raises(ValueError, match=sentence):
        _emulation.conv_relu_pool_workspace(*arguments, padding, pool_padding, torch.zeros(output))


def test_tensor_without_storage_is_refused():
    a, b, output = maps()
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(a)
    with pytest.raises((RuntimeError, TypeError)):
        _C.cpu.squared_difference_map(1, fake, b, output)


def test_lazily_negated_tensors():
    """What torch keeps as a flag on a tensor is resolved before a kernel sees its memory."""
    a, b, _ = maps()
    negated = torch._neg_view(a)
    assert negated.is_neg()
    expected = reference.squared_difference_map(-a.double(), b.double())
    torch.testing.assert_close(ops.squared_difference_map(negated, b), expected.float())


def test_workspace_and_ranks_are_checked():
    x = torch.randn(10)
    nan_count = torch.empty(8, dtype=torch.uint8)
    for ranks in ([], [10], [-1], list(range(17))):
        with pytest.raises(ValueError, match="rank"):
            _C.cpu.order_statistics(1, x, ranks, torch.empty(len(ranks)), nan_count, None)


def test_build_config():
    config = efficientad_ext.build_config()
    assert config["cpu_instruction_set"] in config["cpu_instruction_sets"]
    assert config["cpu_instruction_sets"][0] == "portable"
    assert config["cuda"] == bool(config["cuda_architectures"]) == bool(config["cuda_compiler"])


def test_cuda_tensors_without_cuda_kernels(monkeypatch):
    monkeypatch.setattr(_C, "cuda", None)
    with pytest.raises(RuntimeError, match="built without CUDA kernels"):
        efficientad_ext._registry.cuda_backend()


# torch's own tracer instantiates autograd functions.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_ops_inside_a_compiled_graph():
    features = torch.randn(1, 8, 9, 9, requires_grad=True)
    others = torch.randn(1, 8, 9, 9)
    weight = torch.randn(4, 8, 3, 3)
    image = torch.randint(0, 256, (9, 9, 3), dtype=torch.uint8)

    def run(features):
        pooled = ops.conv_relu_pool(features, weight)
        local_map = ops.squared_difference_map(features, others)
        combined, score = ops.normalize_and_combine(
            local_map, 2 * local_map, (0.0, 1.0, 0.0, 1.0), (65, 65)
        )
        upsampled = ops.upsample_bilinear(features, (20, 21))
        loss = ops.hard_feature_loss(others, features) + score.sum() + pooled.sum()
        return loss + upsampled.mean() + combined.mean() + ops.resize_normalize(image, (5, 5)).sum()

    expected = run(features)
    actual = torch.compile(run, backend="aot_eager", fullgraph=True)(features)
    torch.testing.assert_close(actual, expected)
    (compiled_gradient,) = torch.autograd.grad(actual, features)
    (gradient,) = torch.autograd.grad(expected, features)
    torch.testing.assert_close(compiled_gradient, gradient)
