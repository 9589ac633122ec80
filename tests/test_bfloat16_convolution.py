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
on_each_backend = pytest.mark.usefixtures("training_backend")

# Fewer pixels than are added up at a time, exactly as many, and more; images that begin in the
# midst of those; rows longer than those, of odd and even lengths; x, outputs, kernel, padding.
CASES = [
    ((2, 64, 5, 6), 128, 4, 0),
    ((1, 128, 4, 3), 64, 3, 0),
    ((1, 64, 1, 2), 64, 4, 2),
    ((1, 64, 7, 5), 64, 1, 0),
    ((2, 64, 6, 9), 64, 2, 1),
    ((3, 64, 14, 11), 64, 3, 1),
    ((2, 64, 12, 9), 192, 4, 3),
    ((1, 64, 16, 32), 64, 1, 0),
    ((1, 64, 16, 32), 64, 2, 0),
    ((1, 64, 16, 32), 64, 4, 0),
    ((1, 64, 3, 600), 64, 3, 0),
    ((1, 128, 31, 33), 64, 4, 0),
]


def operands(case):
    """x, weight, bias and a gradient of the output, of numbers that bfloat16 holds."""
    shape, outputs, kernel, padding = case
    x = torch.randn(shape).bfloat16()
    weight = torch.randn(outputs, shape[1], kernel, kernel) / (shape[1] * kernel**2) ** 0.5
    weight = weight.bfloat16().float()
    output = reference.bfloat16_convolution(x, weight, padding=padding)
    return x, weight, torch.randn(outputs), torch.randn(output.shape).bfloat16()


@on_each_backend
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case, in_layout, assert_matches):
    x, weight, bias, gradient = operands(case)
    actual = with_gradients(
        ops.bfloat16_convolution,
        in_layout(x),
        in_layout(weight),
        bias,
        in_layout(gradient),
        case[3],
    )
    exact = [tensor.double() for tensor in (x, weight, bias, gradient)]
    expected = with_gradients(reference.bfloat16_convolution, *exact, case[3])
    assert [one.dtype for one in actual] == [torch.bfloat16] * 2 + [torch.float32] * 2
    # The bias's gradient is rounded to bfloat16 in between, as torch's is.
    tolerances = (torch.bfloat16, torch.bfloat16, torch.float32, torch.bfloat16)
    for one, other, dtype in zip(actual, expected, tolerances, strict=True):
        assert_matches(one.detach(), other.detach(), dtype, 2)


@on_each_backend
def test_weight_is_rounded_to_nearest():
    x, _, _, gradient = operands(CASES[5])
    weight = torch.randn(64, 64, 3, 3)
    bias = torch.zeros(64)
    results = [
        with_gradients(ops.bfloat16_convolution, x, weights, bias, gradient, 1)
        for weights in (weight, weight.bfloat16().float())
    ]
    assert all(map(torch.equal, *results))


@on_each_backend
def test_without_bias_and_with_what_needs_no_gradient(assert_matches):
    x, weight, _, gradient = operands(CASES[5])
    weight.requires_grad_()
    output = ops.bfloat16_convolution(x, weight, padding=1)
    output.backward(gradient)
    double = weight.detach().double().requires_grad_()
    expected = reference.bfloat16_convolution(x.double(), double, padding=1)
    expected.backward(gradient.double())
    assert_matches(output.detach(), expected.detach(), torch.bfloat16)
    assert_matches(weight.grad, double.grad, torch.float32, 2)


def test_gradients_with_a_graph(assert_matches):
    """Which torch computes, and as exactly."""
    x, weight, bias, gradient = operands(CASES[5])
    found = []
    for convolve, to in (
        (ops.bfloat16_convolution, lambda tensor: tensor),
        (reference.bfloat16_convolution, torch.Tensor.double),
    ):
        variables = [to(tensor).requires_grad_() for tensor in (x, weight, bias)]
        output = convolve(*variables, padding=1)
        gradients = torch.autograd.grad(output, variables, to(gradient), create_graph=True)
        slope = sum(one.square().sum() for one in gradients[:2])
        second = torch.autograd.grad(slope, variables[:2])
        found.append(([one.detach() for one in gradients], second))
    (first, second), (expected, expected_second) = found
    tolerances = (torch.bfloat16, torch.float32, torch.bfloat16)
    for one, other, dtype in zip(first, expected, tolerances, strict=True):
        assert_matches(one, other, dtype, 2)
    for one, other in zip(second, expected_second, strict=True):
        assert float((one.double() - other).norm() / other.norm()) < 0.02


def test_an_expanded_gradient(assert_matches):
    x, weight, _, _ = operands(CASES[5])
    weight.requires_grad_()
    output = ops.bfloat16_convolution(x, weight, padding=1)
    output.sum().backward()
    ones = torch.ones(output.shape, dtype=torch.float64)
    expected = torch.nn.grad.conv2d_weight(x.double(), weight.shape, ones, padding=1)
    assert_matches(weight.grad, expected, torch.float32, 2)


@on_each_backend
def test_repeatable_with_any_number_of_threads():
    tensors = operands(CASES[6])
    assert_repeatable(lambda: with_gradients(ops.bfloat16_convolution, *tensors, CASES[6][3])[:3])


def test_sums_beyond_the_second_level_cache(assert_matches):
    """More of them than one thread adds to at once."""
    x, gradient = torch.randn(1, 9, 8, 512).bfloat16(), torch.randn(1, 6, 5, 512).bfloat16()
    filters = torch.empty(512, 4, 4, 512)
    _C.cpu.filter_gradient(1, x, gradient, 0, filters)
    planes = [maps.double().permute(0, 3, 1, 2) for maps in (x, gradient)]
    expected = torch.nn.grad.conv2d_weight(planes[0], (512, 512, 4, 4), planes[1])
    assert_matches(filters.permute(0, 3, 1, 2), expected, torch.float32, 2)


def test_filter_gradient_of_no_image(training_backend):
    gradient = torch.full((64, 3, 3, 64), 3.0)
    maps = [torch.zeros(0, length, length, 64).bfloat16() for length in (6, 4)]
    training_backend.run("filter_gradient", torch.device("cpu"), *maps, 0, gradient)
    assert not gradient.any()


@on_each_backend
def test_empty_batch():
    check_empty_batch(ops.bfloat16_convolution, *operands(((0, 64, 6, 6), 64, 3, 0)))


@on_each_backend
def test_nan_reaches_the_outputs_that_see_it_and_no_others():
    x, weight, _, _ = operands(((2, 64, 20, 20), 64, 4, 0))
    x[1, 3, 10, 10] = float("nan")
    wrong = ops.bfloat16_convolution(x, weight).isnan()
    assert not wrong[0].any()
    assert wrong[1, :, 7:11, 7:11].all()
    assert wrong.sum() == 64 * 4 * 4


def test_fake_tensors(in_layout):
    x, weight, bias, gradient = operands(CASES[5])
    maps = in_layout(x), in_layout(weight), bias, in_layout(gradient)
    check_fake_tensors("bfloat16_convolution", *maps, 1)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"x": torch.zeros(64, 8, 8).bfloat16()}, ValueError, r"expected \(N, C, H, W\)"),
        (
            {"x": torch.zeros(1, 64, 8, 8)},
            TypeError,
            "expected x of torch.bfloat16 with weight of torch.float32",
        ),
        ({"weight": torch.zeros(64, 64, 3, 3).bfloat16()}, TypeError, "weight of torch.bfloat16"),
        ({"weight": torch.zeros(64, 64, 5, 5)}, ValueError, "K 1, 2, 3 or 4"),
        ({"weight": torch.zeros(64, 64, 3, 4)}, ValueError, r"expected \(O, C, K, K\)"),
        ({"weight": torch.zeros(64, 64, 3, 3, device="meta")}, ValueError, "on the CPU"),
        ({"weight": torch.zeros(64, 128, 3, 3)}, ValueError, "for 128 channels, but x has 64"),
        ({"bias": torch.zeros(64).bfloat16()}, ValueError, r"\(64,\) and torch.float32"),
        (
            {"bias": torch.zeros(64, device="meta")},
            ValueError,
            "on meta; expected .* on the CPU",
        ),
        ({"padding": 3}, ValueError, "expected 0 to 2"),
    ],
)
def test_bad_input(changes, error, sentence):
    arguments = {
        "x": torch.zeros(1, 64, 8, 8).bfloat16(),
        "weight": torch.zeros(64, 64, 3, 3),
        "bias": torch.zeros(64),
        "padding": 0,
    }
    ops.bfloat16_convolution(**arguments)
    with pytest.raises(error, match=sentence):
        ops.bfloat16_convolution(**{**arguments, **changes})


FILTERS, MAPS = torch.zeros(64, 3, 3, 128), torch.zeros(2, 6, 6, 128).bfloat16()
WEIGHT = torch.zeros(64, 9 * 128).bfloat16()


@pytest.mark.parametrize(
    ("kernel", "arguments", "sentence"),
    [
        ("segment_weights", (FILTERS, False, FILTERS), "not bfloat16"),
        ("segment_weights", (FILTERS.double(), False, WEIGHT), "not of the accumulator's type"),
        ("segment_weights", (FILTERS[..., :100], False, WEIGHT), "multiples of 64"),
        ("segment_weights", (torch.zeros(64, 5, 5, 128), False, WEIGHT), "the kernel 1 to 4"),
        ("segment_weights", (FILTERS, False, WEIGHT[1:]), "number of elements"),
        ("filter_gradient", (MAPS.float(), MAPS, 0, FILTERS), "not bfloat16"),
        ("filter_gradient", (MAPS, MAPS, 0, FILTERS), "do not fit the filters"),
        (
            "filter_gradient",
            (MAPS, torch.zeros(2, 4, 5, 64).bfloat16(), 0, FILTERS),
            "does not fit the input",
        ),
        (
            "filter_gradient",
            (MAPS, torch.zeros(2, 10, 10, 64).bfloat16(), 3, FILTERS),
            "padding is not less",
        ),
    ],
)
def test_what_would_leave_a_tensor_is_refused(kernel, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        getattr(_C.cpu, kernel)(1, *arguments)
