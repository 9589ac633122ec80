from __future__ import annotations

import numpy as np
import pytest
import torch

from efficientad_ext import ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

FRACTIONS = [0.9, 0.995, 0.0, 0.5, 1.0, 0.3333]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 1000, 8193, 70_001])
def test_matches_reference(backend, dtype, count, assert_matches):
    x = torch.randn(count).to(dtype).to(backend)
    actual = ops.quantiles(x, FRACTIONS)
    assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_matches(actual, reference.quantiles(x.double(), FRACTIONS), actual.dtype)


def test_equals_numpy(backend):
    x = torch.randn(33, 35, 37, dtype=torch.float64)
    expected = np.quantile(x.numpy(), FRACTIONS)
    np.testing.assert_allclose(ops.quantiles(x.to(backend), FRACTIONS).cpu(), expected, rtol=1e-15)


def test_more_than_two_to_the_24_elements():
    x = torch.rand(2**24 + 3)
    fractions = [0.9, 0.995]
    expected = torch.from_numpy(np.quantile(x.numpy().astype(np.float64), fractions))
    torch.testing.assert_close(ops.quantiles(x, fractions), expected.float(), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(20_000),
        lambda: torch.randn(20_000).relu(),
        lambda: torch.arange(20_000.0).flip(0),
        lambda: torch.randint(-3, 4, (20_000,)).float(),
        lambda: torch.cat([torch.full((19_000,), -1e30), torch.full((1_000,), 1e-30)]),
        lambda: torch.tensor([float("inf"), float("-inf"), 0.0, -0.0, 1.0]).repeat(3_000),
    ],
    ids=["constant", "half_zero", "descending", "few_values", "two_scales", "infinities"],
)
def test_adversarial_values(backend, make):
    x = make()
    fractions = [0.0, 0.2, 0.5, 0.95, 0.9999, 1.0]
    expected = torch.tensor(np.quantile(x.double().numpy(), fractions, method="lower")).float()
    lower = [np.floor(f * (x.numel() - 1)) / (x.numel() - 1) for f in fractions]
    torch.testing.assert_close(
        ops.quantiles(x.to(backend), lower).cpu(), expected, rtol=1e-6, atol=0
    )


def test_infinities(backend):
    infinite = float("inf")
    x = torch.tensor([infinite, infinite, 3.0, -2.0, -infinite, 0.5, infinite], device=backend)
    fractions = [0.0, 1 / 6, 0.5, 0.7, 0.75, 1.0]
    expected = [-infinite, -2.0, 3.0, infinite, infinite, infinite]
    for function in (ops.quantiles, reference.quantiles):
        assert function(x, fractions).tolist() == pytest.approx(expected)


def test_more_fractions_than_one_kernel_takes(backend):
    x = torch.randn(5_000, dtype=torch.float64, device=backend)
    fractions = torch.rand(41).tolist()
    torch.testing.assert_close(ops.quantiles(x, fractions), reference.quantiles(x, fractions))


def test_single_fraction_and_none(backend):
    x = torch.randn(100, device=backend)
    assert ops.quantiles(x, 0.5).shape == (1,)
    assert ops.quantiles(x, np.float32(0.5)).equal(ops.quantiles(x, 0.5))
    assert ops.quantiles(x, []).shape == (0,)


def test_views(backend):
    x = torch.randn(40, 50, device=backend)
    for view in (x.T, x[::3], x[:, 5:9], x[None].expand(2, -1, -1)):
        torch.testing.assert_close(
            ops.quantiles(view, FRACTIONS), reference.quantiles(view, FRACTIONS)
        )


def test_gradient(backend):
    x = torch.randn(30, dtype=torch.float64, device=backend, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.quantiles(x, [0.1, 0.25, 0.999]), (x,))


def test_gradient_of_equal_elements_is_shared():
    x = torch.tensor([1.0, 2.0, 2.0, 2.0], requires_grad=True)
    ops.quantiles(x, 1.0).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 1 / 3, 1 / 3, 1 / 3]))


def test_nan_is_an_error(backend, dtype):
    x = torch.randn(20_001).to(dtype)
    x[[5, 20_000]] = float("nan")
    with pytest.raises(ValueError, match="x holds 2 NaN among 20001 elements"):
        ops.quantiles(x.to(backend), [0.5])


@pytest.mark.parametrize(
    ("x", "q", "error", "sentence"),
    [
        (torch.zeros(0), 0.5, ValueError, "no elements"),
        (torch.zeros(3), 1.01, ValueError, "fractions from 0 to 1"),
        (torch.zeros(3), [0.5, float("nan")], ValueError, "fractions from 0 to 1"),
        (torch.zeros(3).int(), 0.5, TypeError, "expected float64"),
    ],
)
def test_bad_input(x, q, error, sentence):
    with pytest.raises(error, match=sentence):
        ops.quantiles(x, q)


def test_fake_tensors():
    torch.library.opcheck(
        torch.ops.efficientad_ext.quantiles.default,
        (torch.randn(40, requires_grad=True), [0.0, 0.3, 1.0]),
    )


def test_a_compiled_call_tells_of_a_nan():
    compiled = torch.compile(
        lambda x: ops.quantiles(x, [0.25]), backend="aot_eager", fullgraph=True
    )
    x = torch.randn(50)
    assert torch.equal(compiled(x), ops.quantiles(x, [0.25]))
    x[7] = float("nan")
    with pytest.raises(ValueError, match="x holds 1 NaN among 50 elements"):
        compiled(x)
