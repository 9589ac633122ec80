from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# Odd sizes, single rows, columns, pixels and channels, and more pixels than one tile holds.
SHAPES = [(1, 384, 7, 9), (2, 3, 33, 35), (3, 1, 5, 4), (1, 17, 1, 13), (2, 40, 6, 1), (2, 5, 1, 1)]


def pair(shape, dtype, device, in_layout=lambda tensor: tensor):
    a, b = torch.randn(2, *shape).to(dtype)
    return in_layout(a).to(device), in_layout(b).to(device)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(backend, dtype, in_layout, shape, assert_matches):
    a, b = pair(shape, dtype, backend, in_layout)
    expected = reference.squared_difference_map(a.double(), b.double())
    actual = ops.squared_difference_map(a, b)
    assert actual.dtype == dtype
    assert_matches(actual, expected, dtype)


def test_many_channels(backend):
    """Thousands of channels are not added one by one, which would round to 8e-7 (4e-7 here)."""
    a, b = pair((1, 4096, 16, 16), torch.float32, backend)
    expected = reference.squared_difference_map(a.double(), b.double())
    error = (ops.squared_difference_map(a, b) - expected) / expected
    assert error.square().mean().sqrt() < 6.3e-7


def test_no_channels():
    a = torch.zeros(1, 0, 3, 3, requires_grad=True)
    result = ops.squared_difference_map(a, torch.zeros(1, 0, 3, 3))
    assert result.isnan().all()
    (gradient,) = torch.autograd.grad(result.sum(), a)
    assert gradient.shape == a.shape


def test_mixed_layouts(backend, assert_matches):
    a, b = pair((2, 24, 5, 6), torch.float32, backend)
    expected = reference.squared_difference_map(a.double(), b.double())
    last = b.contiguous(memory_format=torch.channels_last)
    assert_matches(ops.squared_difference_map(a, last), expected, torch.float32)
    assert_matches(ops.squared_difference_map(last, a), expected, torch.float32)
    both = torch.cat([a, b], dim=1).contiguous(memory_format=torch.channels_last)
    assert_matches(ops.squared_difference_map(both[:, :24], both[:, 24:]), expected, torch.float32)


def test_extreme_values(backend):
    a = torch.tensor([float("inf"), 1e20, 1e-30, float("nan"), 3.0], device=backend)
    b = torch.zeros(5, device=backend)
    a, b = a.view(1, 1, 1, 5), b.view(1, 1, 1, 5)
    actual = ops.squared_difference_map(a, b).flatten()
    expected = torch.tensor([float("inf"), float("inf"), 0.0, float("nan"), 9.0])
    torch.testing.assert_close(actual.cpu(), expected, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)])
def test_empty(backend, shape):
    a = torch.zeros(shape, device=backend)
    assert ops.squared_difference_map(a, a).shape == (shape[0], 1, *shape[2:])


def test_gradient(backend):
    a, b = pair((2, 3, 4, 5), torch.float64, backend)
    a, b = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(ops.squared_difference_map, (a, b))
    assert torch.autograd.gradgradcheck(ops.squared_difference_map, (a, b))


def test_gradient_of_one_argument():
    a, b = pair((1, 3, 4, 5), torch.float32, "cpu")
    b.requires_grad_()
    ops.squared_difference_map(a, b).sum().backward()
    torch.testing.assert_close(b.grad, (b - a).detach() * 2 / 3)
    assert a.grad is None


def test_fake_tensors(in_layout):
    a, b = pair((2, 3, 4, 5), torch.float16, "cpu", in_layout)
    torch.library.opcheck(
        torch.ops.efficientad_ext.squared_difference_map.default,
        (a.requires_grad_(), b),
    )


@pytest.mark.parametrize(
    ("a", "b", "error", "sentence"),
    [
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5), ValueError, "expected the same shape"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), ValueError, r"expected \(N, C, H, W\)"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4).half(), TypeError, "the same type"),
        (torch.zeros(1, 2, 3, 4).int(), torch.zeros(1, 2, 3, 4).int(), TypeError, "expected float"),
        ([1.0], torch.zeros(1, 2, 3, 4), TypeError, "expected a torch.Tensor"),
    ],
)
def test_bad_input(a, b, error, sentence):
    with pytest.raises(error, match=sentence):
        ops.squared_difference_map(a, b)
