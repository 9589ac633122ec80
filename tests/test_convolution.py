from __future__ import annotations

import pytest
import torch
from efficientad import convolution
from torch.nn import functional

from efficientad_ext import ops


@pytest.fixture
def called(monkeypatch):
    """The names of this package's ops as they are called, on a processor that has AMX or is said
    to."""
    names = []

    def spied(name):
        op = getattr(ops, name)

        def call(*arguments, **options):
            names.append(name)
            return op(*arguments, **options)

        return call

    for name in ("winograd_convolution", "bfloat16_convolution", "image_conv_relu_pool"):
        monkeypatch.setattr(convolution.ops, name, spied(name))
    monkeypatch.setattr(convolution, "_HAS_TILES", True)
    return names


def maps(channels=64, dtype=torch.float32):
    return torch.randn(1, channels, 9, 8, dtype=dtype, requires_grad=True)


def filters(channels=64, dtype=torch.float32):
    return (torch.randn(64, channels, 4, 4, dtype=dtype) / 32).requires_grad_()


@pytest.mark.parametrize("mapped", [torch.float32, torch.bfloat16])
def test_autocast_takes_the_bfloat16_convolution(called, mapped):
    x, weight, bias = maps(dtype=mapped), filters(), torch.randn(64, requires_grad=True)
    variables, results = (x, weight, bias), []
    for convolve in (
        lambda: convolution.convolution(x, weight, bias, padding=2),
        lambda: functional.conv2d(x, weight, bias, padding=2),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            output = convolve()
        gradients = torch.autograd.grad(output.float().square().sum(), variables)
        results.append((output.detach(), *gradients))
    assert called == ["bfloat16_convolution"]
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype
        assert float((one.double() - other.double()).norm() / other.double().norm()) < 0.01


def test_float32_takes_winograds(called):
    convolution.convolution(maps(), filters(), None)
    assert called == ["winograd_convolution"]


@pytest.mark.parametrize(
    ("x", "weight", "stride", "autocast"),
    [
        (maps(3), filters(3), 1, torch.bfloat16),
        (maps(), filters(), 2, torch.bfloat16),
        (maps(dtype=torch.float64), filters(dtype=torch.float64), 1, torch.bfloat16),
        (maps(), filters(), 1, torch.float16),
        (maps(), filters(), 2, None),
    ],
)
def test_torch_does_the_rest(called, x, weight, stride, autocast):
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        actual = convolution.convolution(x, weight, None, stride)
        expected = functional.conv2d(x, weight, None, stride)
    assert torch.equal(actual, expected)
    assert not called


def test_without_amx_torch_does_bfloat16(called, monkeypatch):
    monkeypatch.setattr(convolution, "_HAS_TILES", False)
    with torch.autocast("cpu", torch.bfloat16):
        convolution.convolution(maps(), filters(), None)
    assert not called


def stage_by_torch(x, weight, bias, padding=0, pool_padding=0):
    activation = functional.conv2d(x, weight, bias, padding=padding)
    return ops.relu_pool(activation, pool_padding=pool_padding)


@pytest.mark.parametrize("has_tiles", [True, False])
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float32, torch.bfloat16), (torch.float32, None), (torch.float64, None)],
)
def test_a_stage_on_images_is_one_op(
    called, monkeypatch, has_tiles, dtype, autocast, assert_matches
):
    monkeypatch.setattr(convolution, "_HAS_TILES", has_tiles)
    x, weight = maps(3, dtype).detach(), filters(3, dtype)
    bias = torch.randn(64, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        actual = convolution.conv_relu_pool(x, weight, bias, 3, 1)
    assert called == ["image_conv_relu_pool"]
    assert actual.dtype == (autocast or dtype)
    exact = (tensor.detach().double() for tensor in (x, weight, bias))
    assert_matches(actual.detach(), stage_by_torch(*exact, 3, 1), autocast or dtype)


@pytest.mark.parametrize(
    ("x", "autocast"),
    [
        (maps(3), torch.bfloat16),  # whose gradient is wanted
        (maps(3).detach(), torch.float16),
        (maps(3, torch.float16).detach(), torch.bfloat16),
        (maps(3, torch.float64).detach(), torch.bfloat16),
        (maps(5).detach(), torch.bfloat16),
    ],
)
def test_any_other_stage_is_a_convolution_and_a_pool(called, x, autocast):
    weight = filters(x.shape[1], x.dtype)
    with torch.autocast("cpu", autocast):
        actual = convolution.conv_relu_pool(x, weight, None)
        expected = stage_by_torch(x, weight, None)
    assert not called
    assert torch.equal(actual, expected)


def test_autocast_takes_a_bias_of_another_type(called):
    x, weight, bias = maps(3).detach(), filters(3), torch.randn(64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        actual = convolution.conv_relu_pool(x, weight, bias)
        expected = stage_by_torch(x, weight, bias)
    assert not called
    assert torch.equal(actual, expected)
