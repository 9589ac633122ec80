from __future__ import annotations

import pytest
import torch
from convolutions import (
    assert_repeatable,
    check_empty_batch,
    check_fake_tensors,
    with_gradients,
)

from efficientad_ext import _C, ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# Less than a tile, whole tiles, more tiles than are transformed at a time; x, outputs, kernel,
# padding.
CASES = [
    ((2, 64, 5, 6), 128, 4, 0),
    ((1, 128, 4, 3), 64, 3, 0),
    ((1, 64, 1, 2), 64, 4, 2),
    ((3, 64, 14, 10), 64, 3, 1),
    ((2, 64, 12, 9), 192, 4, 3),
    ((2, 128, 41, 33), 64, 4, 0),
    ((1, 64, 66, 70), 128, 3, 2),
]


def operands(case, dtype, device="cpu"):
    """x, weight, bias, and a gradient of the output."""
    shape, outputs, kernel, padding = case
    x = torch.randn(shape)
    weight = torch.randn(outputs, shape[1], kernel, kernel) / (shape[1] * kernel**2) ** 0.5
    gradient = torch.randn(
        reference.winograd_convolution(x, weight, padding=padding).shape,
    )
    tensors = (x, weight, torch.randn(outputs), gradient)
    return [tensor.to(dtype).to(device) for tensor in tensors]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(winograd, case, in_layout, assert_matches):
    x, weight, bias, gradient = operands(case, winograd.dtype)
    # A gradient's sum has as many products as there are outputs, and is as large as its root.
    factors = (4, 4, 8, 8)
    actual = with_gradients(
        ops.winograd_convolution,
        in_layout(x),
        in_layout(weight),
        bias,
        in_layout(gradient),
        case[3],
    )
    exact = [tensor.double() for tensor in (x, weight, bias, gradient)]
    expected = with_gradients(reference.winograd_convolution, *exact, case[3])
    for one, other, factor in zip(actual, expected, factors, strict=True):
        assert one.dtype == winograd.dtype
        assert_matches(one.detach(), other.detach(), winograd.dtype, factor)


def test_without_bias_and_with_what_needs_no_gradient(winograd, assert_matches):
    x, weight, _, gradient = operands(CASES[3], winograd.dtype)
    expected = reference.winograd_convolution(x.double(), weight.double(), padding=1)
    assert_matches(ops.winograd_convolution(x, weight, padding=1), expected, winograd.dtype, 4)
    weight.requires_grad_()
    ops.winograd_convolution(x, weight, padding=1).backward(gradient)
    double = weight.detach().double().requires_grad_()
    reference.winograd_convolution(x.double(), double, padding=1).backward(gradient.double())
    assert_matches(weight.grad, double.grad, winograd.dtype, 8)


@pytest.mark.parametrize("padding", [0, 2])
def test_gradients_of_any_order(padding):
    x, weight, bias, _ = operands(((1, 64, 5, 5), 64, 4, padding), torch.float64)

    def at(a, b, c):
        """The output beside three random directions; there are too many numbers for all."""
        return ops.winograd_convolution(x + a * dx, weight + b * dw, bias + c * db, padding=padding)

    dx, dw, db = (torch.randn_like(tensor) for tensor in (x, weight, bias))
    steps = torch.randn(3, dtype=torch.float64, requires_grad=True).unbind()
    assert torch.autograd.gradcheck(at, steps)
    assert torch.autograd.gradgradcheck(lambda *steps: at(*steps).square().mean(), steps)


def test_repeatable_with_any_number_of_threads(winograd):
    tensors = operands(CASES[5], winograd.dtype)
    assert_repeatable(lambda: with_gradients(ops.winograd_convolution, *tensors, CASES[5][3])[:3])


def test_filter_gradient_of_no_image(winograd):
    gradient = torch.full((64, 3, 3, 64), 3.0, dtype=winograd.dtype)
    maps = [torch.zeros(0, length, length, 64, dtype=winograd.dtype) for length in (6, 4)]
    winograd.run("winograd_filter_gradient", *maps, 0, gradient)
    assert not gradient.any()


def test_empty_batch(winograd):
    tensors = operands(((0, 64, 6, 6), 64, 3, 0), winograd.dtype)
    check_empty_batch(ops.winograd_convolution, *tensors)


def test_nan_reaches_no_further_than_its_tiles(winograd):
    x, weight, _, _ = operands(((1, 64, 20, 20), 64, 4, 0), winograd.dtype)
    x[0, 3, 10, 10] = float("nan")
    wrong = ops.winograd_convolution(x, weight).isnan()[0].all(0)
    assert wrong[7:11, 7:11].all()
    rows, columns = wrong.nonzero().T
    for places in (rows, columns):
        assert places.min() >= 5
        assert places.max() <= 12


def test_fake_tensors(in_layout):
    x, weight, bias, gradient = operands(CASES[3], torch.float32)
    maps = in_layout(x), in_layout(weight), bias, in_layout(gradient)
    check_fake_tensors("winograd_convolution", *maps, 1)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"x": torch.zeros(64, 8, 8)}, ValueError, r"expected \(N, C, H, W\)"),
        (
            {"x": torch.zeros(1, 64, 8, 8).half()},
            TypeError,
            "expected x of torch.float32 with weight of torch.float32 or x of torch.float64 with",
        ),
        ({"x": torch.zeros(1, 64, 8, 8, device="meta")}, ValueError, "x is on meta"),
        (
            {"bias": torch.zeros(64, device="meta")},
            ValueError,
            "on meta; expected .* on the CPU",
        ),
        ({"weight": torch.zeros(64, 64, 3, 3).double()}, TypeError, "weight of torch.float64"),
        ({"weight": torch.zeros(64, 64, 3)}, ValueError, r"expected \(O, C, K, K\)"),
        ({"weight": torch.zeros(64, 64, 5, 5)}, ValueError, "K 3 or 4"),
        ({"weight": torch.zeros(64, 64, 3, 4)}, ValueError, "K 3 or 4"),
        ({"weight": torch.zeros(60, 64, 3, 3)}, ValueError, "multiples of 64"),
        ({"weight": torch.zeros(64, 64, 3, 3, device="meta")}, ValueError, "on the CPU"),
        ({"weight": torch.zeros(64, 128, 3, 3)}, ValueError, "for 128 channels, but x has 64"),
        ({"bias": torch.zeros(128)}, ValueError, r"expected \(64,\)"),
        ({"padding": 1.0}, TypeError, "padding is 1.0; expected a whole number"),
        ({"padding": 3}, ValueError, "expected 0 to 2"),
        ({"padding": -1}, ValueError, "expected 0 to 2"),
        ({"x": torch.zeros(1, 64, 8, 2)}, ValueError, "smaller than the kernel 3x3"),
    ],
)
def test_bad_input(changes, error, sentence):
    arguments = {
        "x": torch.zeros(1, 64, 8, 8),
        "weight": torch.zeros(64, 64, 3, 3),
        "bias": torch.zeros(64),
        "padding": 0,
    }
    ops.winograd_convolution(**arguments)
    with pytest.raises(error, match=sentence):
        ops.winograd_convolution(**{**arguments, **changes})


FILTERS, MAPS = torch.zeros(64, 3, 3, 128), torch.zeros(2, 6, 6, 128)


@pytest.mark.parametrize(
    ("kernel", "arguments", "sentence"),
    [
        ("winograd_weights", (FILTERS, False, FILTERS.half()), "neither float32 nor float64"),
        ("winograd_weights", (FILTERS[..., :100], False, FILTERS), "multiples of 64"),
        ("winograd_weights", (FILTERS[..., :0], False, FILTERS), "multiples of 64"),
        ("winograd_weights", (FILTERS, False, torch.zeros(64 * 35 * 128)), "number of elements"),
        ("winograd_filter_gradient", (MAPS, MAPS, 0, FILTERS), "do not fit the filters"),
        (
            "winograd_filter_gradient",
            (MAPS, torch.zeros(2, 4, 5, 64), 0, FILTERS),
            "does not fit the input",
        ),
        (
            "winograd_filter_gradient",
            (MAPS, torch.zeros(2, 10, 10, 64), 3, FILTERS),
            "padding is not less",
        ),
    ],
)
def test_what_would_leave_a_tensor_is_refused(kernel, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        getattr(_C.cpu, kernel)(1, *arguments)
