from __future__ import annotations

import numpy as np
import pytest
import torch
from convolutions import assert_repeatable
from torch.nn import functional

from efficientad_ext import _C, ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")
on_each_backend = pytest.mark.usefixtures("training_backend")

# Images of one window, of odd and even sides, and of rows that fill one tile and more than one;
# image, outputs, padding, pool_padding.
CASES = [
    ((1, 3, 5, 5), 64, 0, 0),
    ((2, 3, 3, 4), 64, 1, 1),
    ((3, 3, 12, 9), 64, 0, 0),
    ((2, 3, 9, 14), 64, 3, 1),
    ((1, 3, 8, 7), 128, 2, 1),
    ((1, 3, 6, 35), 64, 0, 0),
    ((2, 3, 7, 41), 192, 3, 0),
    ((1, 3, 21, 150), 64, 0, 1),
]


@pytest.fixture(
    params=[
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float32, torch.float16),
        (torch.float32, torch.bfloat16),
    ],
    ids=lambda types: str(types[1]),
)
def types(request):
    """Of the tensors, and of the result."""
    return request.param


def operands(case, types):
    """Image, weight, bias and a gradient of the output.

    Of numbers that the result's type holds: whole ones in images and quarters in weights, so that
    no rounding decides what passes the ReLU.
    """
    shape, outputs, padding, pool_padding = case
    x = torch.randint(-4, 5, shape).to(types[0])
    weight = torch.randint(-4, 5, (outputs, 3, 4, 4)).to(types[0]) / 4
    bias = torch.randint(-4, 5, (outputs,)).to(types[0]) / 8
    output = reference.conv_relu_pool(x, weight, bias, padding=padding, pool_padding=pool_padding)
    return x, weight, bias, torch.randn(output.shape).to(types[1])


def with_gradients(function, x, weight, bias, upstream, case, **options):
    """The output, and the gradients of weight and bias."""
    variables = [tensor.detach().requires_grad_() for tensor in (weight, bias)]
    output = function(x, *variables, padding=case[2], pool_padding=case[3], **options)
    return output.detach(), *torch.autograd.grad(output, variables, upstream)


@on_each_backend
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case, types, in_layout, assert_matches):
    x, weight, bias, upstream = operands(case, types)
    actual = with_gradients(
        ops.image_conv_relu_pool,
        in_layout(x),
        in_layout(weight),
        bias,
        in_layout(upstream),
        case,
        dtype=types[1],
    )
    exact = (tensor.double() for tensor in (x, weight, bias, upstream))
    expected = with_gradients(reference.image_conv_relu_pool, *exact, case)
    assert [one.dtype for one in actual] == [types[1], types[0], types[0]]
    # Gradients are multiplied in their own type and added up in the images'.
    for one, other, dtype in zip(actual, expected, (types[1], *types[:1] * 2), strict=True):
        assert_matches(one, other, dtype)


@on_each_backend
@pytest.mark.parametrize("case", CASES[2:5], ids=str)
def test_without_a_gradient_it_is_the_same(case, types):
    x, weight, bias, upstream = operands(case, types)
    options = {"padding": case[2], "pool_padding": case[3], "dtype": types[1]}
    expected, *_ = with_gradients(
        ops.image_conv_relu_pool, x, weight, bias, upstream, case, dtype=types[1]
    )
    assert torch.equal(ops.image_conv_relu_pool(x, weight, bias, **options), expected)


@on_each_backend
def test_numbers_with_more_digits_than_are_multiplied(assert_matches):
    """Images hand on what rounding takes from a pixel; weights are rounded to nearest."""
    case = CASES[6]
    x, weight, bias = torch.randn(case[0]), torch.randn(192, 3, 4, 4) / 7, torch.randn(192)
    options = {"padding": case[2], "dtype": torch.bfloat16}
    actual = ops.image_conv_relu_pool(x, weight, bias, **options)
    precise = reference.image_conv_relu_pool(x.double(), weight.double(), bias.double(), padding=3)
    assert_matches(actual, precise, torch.bfloat16)
    rounded = ops.image_conv_relu_pool(x, weight.bfloat16().float(), bias, **options)
    assert torch.equal(actual, rounded)


@on_each_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_tensors_of_the_type_that_is_multiplied(dtype):
    """As if they were float32, but for the gradients, which are rounded."""
    case = CASES[3]
    tensors = operands(case, (torch.float32, dtype))
    expected = with_gradients(ops.image_conv_relu_pool, *tensors, case, dtype=dtype)
    short = (tensor.to(dtype) for tensor in tensors)
    actual = with_gradients(ops.image_conv_relu_pool, *short, case)
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other.to(dtype))


@on_each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums_over_as_many_pixels_as_a_training_has(dtype, assert_matches):
    case = ((2, 3, 256, 256), 64, 0, 0)
    tensors = operands(case, (torch.float32, dtype))
    actual = with_gradients(ops.image_conv_relu_pool, *tensors, case, dtype=dtype)
    exact = (tensor.double() for tensor in tensors)
    expected = with_gradients(reference.image_conv_relu_pool, *exact, case)
    for one, other in zip(actual[1:], expected[1:], strict=True):
        assert_matches(one, other, torch.float32)


@on_each_backend
def test_gradients_read_images_exactly_or_rounded_to_nearest():
    x, gradient = torch.randn(2, 3, 19, 38), torch.randn(2, 64, 8, 17).bfloat16()
    active = torch.randint(0, 256, (2, 16, 34, 8), dtype=torch.uint8)
    bits = np.unpackbits(active.numpy(), axis=3, bitorder="little")
    passing = torch.from_numpy(bits).permute(0, 3, 1, 2).double()
    of_pixels = functional.interpolate(gradient.double() / 4, scale_factor=2) * passing
    raw = torch.ops.efficientad_ext.image_conv_relu_pool_gradient.default
    of_weight, of_bias = raw(gradient, x, active, 0)
    errors = []
    for image in (x, x.bfloat16()):
        seen = image.double()[..., :37]  # the last column is in no window
        expected = torch.nn.grad.conv2d_weight(seen, (64, 3, 4, 4), of_pixels)
        errors.append(float((of_weight - expected).norm() / expected.norm()))
    assert min(errors) < 1e-5 < max(errors)
    torch.testing.assert_close(of_bias.double(), of_pixels.sum((0, 2, 3)), rtol=0, atol=1e-4)


@on_each_backend
def test_without_bias_and_with_what_needs_no_gradient(assert_matches):
    case = CASES[3]
    x, weight, bias, upstream = operands(case, (torch.float32,) * 2)
    paddings = {"padding": case[2], "pool_padding": case[3]}
    found = []
    for function, to in (
        (ops.image_conv_relu_pool, torch.Tensor.float),
        (reference.image_conv_relu_pool, torch.Tensor.double),
    ):
        variable = to(weight).requires_grad_()
        output = function(to(x), variable, **paddings)
        (of_weight,) = torch.autograd.grad(output, variable, to(upstream))
        biased = to(bias).requires_grad_()
        output = function(to(x), to(weight), biased, **paddings)
        (of_bias,) = torch.autograd.grad(output, biased, to(upstream))
        found.append((of_weight, of_bias))
    for one, other in zip(*found, strict=True):
        assert_matches(one, other, torch.float32)


@pytest.mark.parametrize("paddings", [(0, 0), (1, 1), (2, 0)], ids=str)
def test_gradients_of_any_order(paddings):
    """In the image, too."""
    tensors = (torch.randn(1, 3, 6, 7), torch.randn(64, 3, 4, 4) / 7, torch.randn(64))
    variables = [tensor.double().requires_grad_() for tensor in tensors]

    def function(x, weight, bias):
        output = ops.image_conv_relu_pool(
            x, weight, bias, padding=paddings[0], pool_padding=paddings[1]
        )
        return output[:, ::16].square()

    fast = {"fast_mode": True}
    assert torch.autograd.gradcheck(function, variables, **fast)
    assert torch.autograd.gradgradcheck(function, variables, **fast)


def test_gradients_with_a_graph_in_bfloat16():
    """As torch computes them, from the same bits and as exactly."""
    case = CASES[3]
    x, weight, bias, upstream = operands(case, (torch.float32, torch.bfloat16))
    found = []
    for graph in (False, True):
        variables = [tensor.detach().requires_grad_() for tensor in (weight, bias)]
        output = ops.image_conv_relu_pool(
            x, *variables, padding=case[2], pool_padding=case[3], dtype=torch.bfloat16
        )
        found.append(torch.autograd.grad(output, variables, upstream, create_graph=graph))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other.detach())


@on_each_backend
@pytest.mark.parametrize(("paddings", "place"), [((0, 0), (7, 7)), ((3, 1), (0, 8))], ids=str)
def test_zeros_and_nan(paddings, place):
    """At zero the gradient is zero, and a NaN is passed on in both directions, as in torch.

    But not by the border of a pool, which is zero whatever the convolution would give there.
    """
    x = torch.zeros(1, 3, 9, 9)
    x[(0, 1, *place)] = float("nan")
    weight, bias = torch.ones(64, 3, 4, 4), torch.zeros(64)
    bias[1] = 1
    case = (x.shape, 64, *paddings)
    upstream = torch.ones_like(reference.conv_relu_pool(x, weight, None, padding=paddings[0],
                                                        pool_padding=paddings[1]))  # fmt: skip
    ours, theirs = (
        with_gradients(module.image_conv_relu_pool, x, weight, bias, upstream, case)
        for module in (ops, reference)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    assert ours[0].isnan().any()
    assert not ours[0].isnan().all()


@on_each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_repeatable_with_any_number_of_threads(dtype):
    case = CASES[6]
    tensors = operands(case, (torch.float32, dtype))
    assert_repeatable(lambda: with_gradients(ops.image_conv_relu_pool, *tensors, case, dtype=dtype))


@on_each_backend
def test_an_expanded_gradient(assert_matches):
    case = CASES[2]
    x, weight, bias, _ = operands(case, (torch.float32,) * 2)
    upstream = torch.ones(1).expand(3, 64, 4, 3)
    actual = with_gradients(ops.image_conv_relu_pool, x, weight, bias, upstream, case)
    exact = (tensor.double() for tensor in (x, weight, bias, upstream))
    expected = with_gradients(reference.image_conv_relu_pool, *exact, case)
    for one, other in zip(actual, expected, strict=True):
        assert_matches(one, other, torch.float32)


@on_each_backend
def test_empty_batch():
    x, upstream = torch.randn(0, 3, 9, 9), torch.randn(0, 64, 3, 3)
    output, of_weight, of_bias = with_gradients(
        ops.image_conv_relu_pool, x, torch.randn(64, 3, 4, 4), torch.randn(64), upstream,
        ((0, 3, 9, 9), 64, 0, 0),
    )  # fmt: skip
    assert output.shape == (0, 64, 3, 3)
    assert not of_weight.any()
    assert not of_bias.any()


# torch's own check looks at the gradients of what is between the ops of a composite.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_fake_tensors(in_layout):
    case = CASES[3]
    x, weight, bias, upstream = operands(case, (torch.float32,) * 2)
    x, upstream = in_layout(x), in_layout(upstream)
    raw = torch.ops.efficientad_ext
    arguments = (x, in_layout(weight).requires_grad_(), bias, 3, 1, torch.float32)
    torch.library.opcheck(raw.image_conv_relu_pool.default, arguments)
    torch.library.opcheck(raw.image_conv_relu_pool_recorded.default, arguments)
    _, active = raw.image_conv_relu_pool_recorded.default(*arguments)
    torch.library.opcheck(
        raw.image_conv_relu_pool_gradient.default, (upstream.requires_grad_(), x, active, 4)
    )


X, WEIGHT, BIAS = torch.zeros(1, 3, 8, 8), torch.zeros(64, 3, 4, 4), torch.zeros(64)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"x": torch.zeros(3, 8, 8)}, ValueError, r"expected \(N, C, H, W\)"),
        ({"x": X.int()}, TypeError, "expected float64"),
        ({"x": torch.zeros(1, 4, 8, 8)}, ValueError, "for 3 input channels; .* 4 channels"),
        (
            {"x": torch.zeros(1, 4, 8, 8), "weight": torch.zeros(64, 4, 4, 4)},
            ValueError,
            r"expected \(N, 3, H, W\)",
        ),
        ({"weight": WEIGHT.double()}, TypeError, "the same type"),
        ({"weight": torch.zeros(32, 3, 4, 4), "bias": None}, ValueError, "O a multiple of 64"),
        ({"weight": torch.zeros(64, 3, 3, 4)}, ValueError, r"\(O, 3, 4, 4\)"),
        ({"x": X.to("meta"), "weight": WEIGHT.to("meta"), "bias": None}, ValueError, "on the CPU"),
        ({"bias": torch.zeros(3)}, ValueError, r"expected \(64,\)"),
        ({"dtype": torch.float64}, TypeError, "dtype is torch.float64; expected torch.float32"),
        (
            {"x": X.half(), "weight": WEIGHT.half(), "bias": None, "dtype": torch.bfloat16},
            TypeError,
            "dtype is torch.bfloat16; expected torch.float16",
        ),
        ({"padding": -1}, ValueError, "padding of at least 0"),
        ({"pool_padding": 2}, ValueError, "pool_padding of 0 or 1"),
        ({"padding": 1.0}, TypeError, "padding is 1.0; expected a whole number"),
        ({"x": torch.zeros(1, 3, 4, 8)}, ValueError, "too small for a kernel"),
        ({"x": torch.zeros(1, 3, 3, 8), "pool_padding": 1}, ValueError, "too small for"),
    ],
)
def test_bad_input(changes, error, sentence):
    arguments = {"x": X, "weight": WEIGHT, "bias": BIAS}
    ops.image_conv_relu_pool(**arguments)
    with pytest.raises(error, match=sentence):
        ops.image_conv_relu_pool(**{**arguments, **changes})


FORWARD = {
    "image": torch.zeros(2, 3, 9, 11),
    "filters": torch.zeros(64, 4, 4, 3),
    "bias": torch.zeros(64),
    "pool_padding": 0,
    "output": torch.zeros(2, 3, 4, 64),
    "active": torch.zeros(2, 6, 8, 8, dtype=torch.uint8),
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": torch.zeros(2, 4, 9, 11)}, "expected images"),
        ({"image": torch.zeros(2, 3, 9, 11).double()}, "expected images"),
        ({"image": torch.zeros(2, 3, 4, 11), "output": torch.zeros(2, 0, 4, 64)}, "one window"),
        ({"filters": torch.zeros(32, 4, 4, 3)}, "expected filters"),
        ({"filters": torch.zeros(64, 4, 4, 3).double()}, "expected filters"),
        ({"bias": torch.zeros(128)}, "as many biases"),
        ({"pool_padding": 2}, "neither 0 nor 1"),
        ({"output": torch.zeros(2, 3, 5, 64)}, "do not fit the images"),
        ({"active": torch.zeros(2, 6, 8, 64, dtype=torch.uint8)}, "channels / 8"),
        ({"active": torch.zeros(2, 6, 8, 8)}, "channels / 8"),
    ],
)
def test_what_would_leave_a_tensor_is_refused(changes, sentence):
    _C.cpu.image_conv_relu_pool(1, *FORWARD.values())
    with pytest.raises(ValueError, match=sentence):
        _C.cpu.image_conv_relu_pool(1, *{**FORWARD, **changes}.values())


def test_the_gradient_wants_the_bits():
    image, filters, bias, _, output, active = FORWARD.values()
    _C.cpu.image_conv_relu_pool_gradient(1, image, active, output, filters, bias)
    with pytest.raises(ValueError, match="the bits of what is active"):
        _C.cpu.image_conv_relu_pool_gradient(1, image, None, output, filters, bias)
