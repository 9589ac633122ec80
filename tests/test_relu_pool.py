from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# Odd and even sides, fewer channels than a vector has lanes and more, maps of one window and less.
SHAPES = [(2, 40, 21, 18), (1, 7, 8, 37), (3, 1, 2, 2), (2, 16, 5, 66), (1, 5, 3, 2)]


@pytest.mark.parametrize("pool_padding", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(backend, dtype, in_layout, shape, pool_padding, assert_matches):
    x = in_layout(torch.randn(shape).to(dtype)).to(backend)
    actual = ops.relu_pool(x, pool_padding=pool_padding)
    assert actual.dtype == dtype
    assert_matches(actual, reference.relu_pool(x.double(), pool_padding=pool_padding), dtype)


@pytest.mark.parametrize("pool_padding", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_matches_reference(backend, dtype, in_layout, shape, pool_padding, assert_matches):
    x = in_layout(torch.randn(shape).to(dtype)).to(backend).requires_grad_()
    precise = x.detach().double().requires_grad_()
    output = ops.relu_pool(x, pool_padding=pool_padding)
    upstream = torch.randn_like(output)
    output.backward(upstream)
    expected = reference.relu_pool(precise, pool_padding=pool_padding)
    expected.backward(upstream.double())
    assert_matches(x.grad, precise.grad, dtype)
    # Whether an element passes is not a matter of rounding; a quarter of the smallest numbers is 0.
    assert torch.equal(x.grad == 0, precise.grad.to(dtype) == 0)


@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last], ids=str)
def test_upstream_gradient_in_another_layout(backend, last, assert_matches):
    x = torch.randn(2, 6, 9, 8).contiguous(memory_format=last).to(backend).requires_grad_()
    output = ops.relu_pool(x)
    upstream = torch.randn(2, 4, 6, 4).to(backend).permute(0, 2, 3, 1).expand(2, 6, 4, 4)
    (actual,) = torch.autograd.grad(output, x, upstream)
    precise = x.detach().double().requires_grad_()
    reference.relu_pool(precise).backward(upstream.double())
    assert_matches(actual, precise.grad, torch.float32)


def test_zeros_and_nan(backend, in_layout):
    """At zero the gradient is zero, and a NaN is passed on in both directions, as in torch."""
    x = torch.randn(1, 4, 6, 6)
    x[0, 0, 0, :2] = 0
    x[0, 1, 2, 3] = float("nan")
    x = in_layout(x).to(backend).requires_grad_()
    outputs = ops.relu_pool(x), reference.relu_pool(x)
    gradients = [torch.autograd.grad(output.sum(), x)[0] for output in outputs]
    for actual, expected in (outputs, gradients):
        assert torch.equal(actual.isnan(), expected.isnan())
        assert torch.allclose(actual.nan_to_num(), expected.nan_to_num())
    assert outputs[0].isnan().sum() == 1


@pytest.mark.parametrize("pool_padding", [0, 1])
def test_gradients_of_any_order(backend, pool_padding):
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, device=backend, requires_grad=True)

    def function(x):
        return ops.relu_pool(x, pool_padding=pool_padding).square()

    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_empty_batch(backend):
    x = torch.randn(0, 4, 6, 6, device=backend, requires_grad=True)
    output = ops.relu_pool(x)
    assert output.shape == (0, 4, 3, 3)
    output.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("pool_padding", [0, 1])
def test_fake_tensors(in_layout, pool_padding):
    x = in_layout(torch.randn(2, 40, 21, 18)).requires_grad_()
    gradient = torch.randn_like(ops.relu_pool(x, pool_padding=pool_padding))
    raw = torch.ops.efficientad_ext
    torch.library.opcheck(raw.relu_pool.default, (x, pool_padding))
    torch.library.opcheck(raw.relu_pool_gradient.default, (gradient, x, pool_padding))


@pytest.mark.parametrize(
    ("x", "options", "error", "sentence"),
    [
        (torch.zeros(3, 8, 8), {}, ValueError, r"expected \(N, C, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int32), {}, TypeError, "expected float64"),
        (torch.zeros(1, 3, 8, 8), {"pool_padding": 2}, ValueError, "expected 0 or 1"),
        (torch.zeros(1, 3, 8, 8), {"pool_padding": 1.0}, TypeError, "is 1.0; expected a whole"),
        (torch.zeros(1, 3, 8, 1), {}, ValueError, "too small for a 2x2 pooling window"),
        (torch.zeros(1, 3, 0, 8), {"pool_padding": 1}, ValueError, "too small for a 2x2"),
    ],
)
def test_bad_input(x, options, error, sentence):
    with pytest.raises(error, match=sentence):
        ops.relu_pool(x, **options)
