from __future__ import annotations

import pytest
import torch

from efficientad_ext import _C, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# (batch, inputs, outputs): the bottleneck, PUAD's feature, and outputs that are no multiple of a
# tile.
SHAPES = [(1, 4096, 64), (3, 4096, 64), (1, 2304, 384), (5, 64, 1), (17, 192, 77)]


def random_arguments(shape, dtype, device):
    batch, inputs, outputs = shape
    x = torch.randn(batch, inputs).to(dtype)
    weight = (torch.randn(outputs, inputs) / inputs**0.5).to(dtype)
    bias = torch.randn(outputs).to(torch.promote_types(dtype, torch.float32))
    return x.to(device), weight.to(device), bias.to(device)


def run(kernels, x, weight, bias):
    output = torch.empty(x.shape[0], weight.shape[0], dtype=x.dtype, device=x.device)
    kernels("linear").run("linear", x.device, x, weight, bias, output)
    return output


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(backend, kernels, dtype, shape, assert_matches):
    x, weight, bias = random_arguments(shape, dtype, backend)
    actual = run(kernels, x, weight, bias)
    expected = reference.linear(x.double(), weight.double(), bias.double())
    # One rounding of a sum in the accumulator type. A result may be small beside the sums that it
    # passes through, which are about 1.
    assert_matches(actual, expected, dtype, intermediate=1.0)


def test_repeatable(backend, kernels):
    arguments = random_arguments(SHAPES[2], torch.float32, backend)
    assert torch.equal(run(kernels, *arguments), run(kernels, *arguments))


def test_nan_passes(backend, kernels, dtype):
    x, weight, bias = random_arguments((3, 128, 5), dtype, backend)
    x[1, 77] = float("nan")
    assert run(kernels, x, weight, bias).isnan().all(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(0, 64, 4), (2, 64, 0)], ids=str)
def test_empty(backend, kernels, shape):
    assert run(kernels, *random_arguments(shape, torch.float32, backend)).numel() == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"x": torch.randn(2, 96)}, "a multiple of 64"),
        ({"x": torch.randn(128)}, "a multiple of 64"),
        ({"x": torch.randn(2, 256)[:, ::2]}, "contiguous"),
        ({"weight": torch.randn(5, 64)}, "the weight does not fit"),
        ({"weight": torch.randn(5, 128).half()}, "the weight does not fit"),
        ({"bias": torch.randn(4)}, "the bias does not fit"),
        ({"bias": torch.randn(5).double()}, "the bias does not fit"),
        ({"output": torch.empty(5, 2)}, "the output does not fit"),
    ],
)
def test_what_would_leave_a_tensor_is_refused(changes, sentence):
    arguments = {
        "x": torch.randn(2, 128),
        "weight": torch.randn(5, 128),
        "bias": torch.randn(5),
        "output": torch.empty(2, 5),
    }
    _C.cpu.linear(1, *arguments.values())
    with pytest.raises(ValueError, match=sentence):
        _C.cpu.linear(1, *{**arguments, **changes}.values())
