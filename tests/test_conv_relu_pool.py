from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# (input, weight): odd sizes, kernels of one pixel and oblong ones, outputs of one pixel.
SHAPES = [
    ((2, 3, 21, 18), (40, 3, 4, 4)),
    ((1, 5, 9, 12), (7, 5, 1, 3)),
    ((3, 1, 6, 6), (1, 1, 3, 3)),
    ((1, 4, 5, 6), (33, 4, 4, 4)),
]
PADDINGS = [(0, 0), (3, 1), (1, 0)]


def arguments(shapes, dtype, device):
    x = torch.randn(shapes[0]).to(dtype)
    weight = (torch.randn(shapes[1]) / shapes[1][1:].numel() ** 0.5).to(dtype)
    bias = torch.randn(shapes[1][0]).to(dtype)
    return x.to(device), weight.to(device), bias.to(device)


def largest_sum(x, weight, bias, padding=0):
    """The largest value before the ReLU, which may leave nothing but small ones."""
    bias = None if bias is None else bias.double()
    sums = functional.conv2d(x.double(), weight.double(), bias, padding=padding)
    return float(sums.abs().max())


def sized(shapes):
    return torch.Size(shapes[0]), torch.Size(shapes[1])


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matches_reference(backend, dtype, in_layout, shapes, padding, assert_matches):
    x, weight, bias = arguments(sized(shapes), dtype, backend)
    x = in_layout(x.cpu()).to(backend)
    options = {"padding": padding[0], "pool_padding": padding[1]}
    for b in (bias, None):
        expected = reference.conv_relu_pool(
            x.double(), weight.double(), None if b is None else b.double(), **options
        )
        actual = ops.conv_relu_pool(x, weight, b, **options)
        assert actual.dtype == dtype
        # Two roundings in a short type: torch's convolution, then the average.
        intermediate = largest_sum(x, weight, b, padding[0])
        assert_matches(actual, expected, dtype, factor=2, intermediate=intermediate)


def test_first_stages_of_a_network(backend, dtype, assert_matches):
    """Shapes as in a PDN-S, on an image of 64 pixels, channels-last weights included."""
    x, weight, bias = arguments(sized(((1, 3, 64, 64), (128, 3, 4, 4))), dtype, backend)
    last = torch.channels_last
    expected = reference.conv_relu_pool(x.double(), weight.double(), bias.double())
    for a, b in ((x, weight), (x.to(memory_format=last), weight.to(memory_format=last))):
        assert_matches(ops.conv_relu_pool(a, b, bias), expected, dtype, factor=2)


def test_channels_last_images_on_a_cpu(dtype, assert_matches):
    """Which a kernel for them computes; where their gradient is wanted, torch's convolution."""
    x, weight = torch.randint(-4, 5, (2, 3, 17, 14)), torch.randint(-4, 5, (64, 3, 4, 4)) / 4
    x, weight, bias = x.to(dtype), weight.to(dtype), torch.randint(-4, 5, (64,)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(2, 64, 8, 6).to(dtype)

    def with_gradients(function, x, *variables):
        variables = [tensor.detach().requires_grad_() for tensor in variables]
        output = function(x, *variables, padding=1)
        return output, *torch.autograd.grad(output, variables, upstream.to(x.dtype))

    exact = (tensor.double() for tensor in (x, weight, bias))
    expected = with_gradients(reference.conv_relu_pool, *exact)
    functions = set()
    for image in (x, x.clone().requires_grad_()):
        actual = with_gradients(ops.conv_relu_pool, image, weight, bias)
        assert actual[0].is_contiguous(memory_format=torch.channels_last)
        functions.add(actual[0].grad_fn.name())
        for one, other in zip(actual, expected, strict=True):
            assert one.dtype == dtype
            assert_matches(one.detach(), other.detach(), dtype, factor=4)
    assert len(functions) == 2


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_channels_that_suit_tensor_cores(backend, dtype, padding, assert_matches):
    x, weight, bias = arguments(sized(((2, 128, 11, 9), (64, 128, 4, 4))), dtype, backend)
    x = x.contiguous(memory_format=torch.channels_last)
    for b in (bias, None):
        expected = reference.conv_relu_pool(
            x.double(), weight.double(), None if b is None else b.double(), padding=padding
        )
        actual = ops.conv_relu_pool(x, weight, b, padding=padding)
        assert actual.is_contiguous(memory_format=torch.channels_last)
        assert_matches(actual, expected, dtype, factor=2)


def test_nan_passes(backend):
    x, weight, bias = arguments(sized(SHAPES[0]), torch.float32, backend)
    x[0, 0, 10, 10] = float("nan")
    actual = ops.conv_relu_pool(x, weight, bias)
    expected = reference.conv_relu_pool(x, weight, bias)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert actual.isnan().any()


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_gradient(backend, padding):
    x, weight, bias = arguments(sized(((2, 2, 7, 6), (3, 2, 3, 2))), torch.float64, backend)

    def function(x, weight, bias):
        return ops.conv_relu_pool(x, weight, bias, padding=padding[0], pool_padding=padding[1])

    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
    assert torch.autograd.gradcheck(lambda x, w: function(x, w, None), inputs[:2])
    frozen = weight.detach()
    assert torch.autograd.gradcheck(lambda x, b: function(x, frozen, b), (x, bias))


def test_gradient_matches_reference(backend, dtype, in_layout, assert_matches):
    x, weight, bias = arguments(sized(SHAPES[0]), dtype, backend)
    x = in_layout(x.cpu()).to(backend)
    ours = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
    theirs = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    output = ops.conv_relu_pool(*ours)
    upstream = torch.randn_like(output)
    output.backward(upstream)
    reference.conv_relu_pool(*theirs).backward(upstream.double())
    # The backward pass of torch's convolution sums hundreds of rounded products in a short type.
    assert_matches(ours[0].grad, theirs[0].grad, dtype, factor=4)


@pytest.mark.parametrize("trained", [False, True])
def test_autocast(backend, trained):
    """Stage after stage of mixed types, as torch's convolution takes them there."""
    x, weight, bias = arguments(sized(SHAPES[0]), torch.float32, backend)
    second = torch.randn(6, 40, 3, 3).to(backend).requires_grad_(trained)
    with torch.autocast(backend.type, torch.bfloat16):
        once = ops.conv_relu_pool(x, weight, bias)
        twice = ops.conv_relu_pool(once, second)
        precise = ops.conv_relu_pool(x.double(), weight.double(), bias.double())
    assert (once.dtype, twice.dtype, precise.dtype) == (torch.bfloat16,) * 2 + (torch.float64,)
    short = [tensor.bfloat16() for tensor in (x, weight, bias, second)]
    assert torch.equal(once, ops.conv_relu_pool(*short[:3]))
    assert torch.equal(twice, ops.conv_relu_pool(once, short[3]))
    if trained:
        (gradient,) = torch.autograd.grad(twice.sum(), second)
        assert gradient.dtype == torch.float32
        assert gradient.abs().sum() > 0


def test_empty_batch(backend):
    x, weight, bias = arguments(sized(SHAPES[0]), torch.float32, backend)
    assert ops.conv_relu_pool(x[:0], weight, bias).shape == (0, 40, 9, 7)


# torch's own check looks at the gradient of the activation between the two ops of the composite.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_fake_tensors(in_layout):
    x, weight, bias = arguments(sized(SHAPES[0]), torch.float32, "cpu")
    torch.library.opcheck(
        torch.ops.efficientad_ext.conv_relu_pool.default,
        (in_layout(x).requires_grad_(), weight, bias, 3, 1),
    )


def test_shapes_without_memory():
    x, weight = (torch.empty(shape, device="meta") for shape in ((1, 3, 9, 9), (4, 3, 2, 2)))
    assert ops.conv_relu_pool(x, weight).shape == (1, 4, 4, 4)


X, WEIGHT, BIAS = torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 4, 4), torch.zeros(4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "sentence"),
    [
        ((X, torch.zeros(4, 2, 4, 4), BIAS), {}, ValueError, "for 2 input channels"),
        ((X, WEIGHT, torch.zeros(3)), {}, ValueError, r"expected \(4,\)"),
        ((X, WEIGHT.half(), BIAS), {}, TypeError, "the same type"),
        ((X, WEIGHT, BIAS), {"padding": -1}, ValueError, "padding of at least 0"),
        ((X, WEIGHT, BIAS), {"pool_padding": 2}, ValueError, "pool_padding of 0 or 1"),
        ((X, WEIGHT, BIAS), {"padding": 1.0}, TypeError, "padding is 1.0; expected a whole number"),
        ((torch.zeros(1, 3, 4, 8), WEIGHT, BIAS), {}, ValueError, "too small for a kernel"),
        ((torch.zeros(1, 3, 3, 8), WEIGHT, BIAS), {"pool_padding": 1}, ValueError, "too small for"),
    ],
)
def test_bad_input(arguments, options, error, sentence):
    with pytest.raises(error, match=sentence):
        ops.conv_relu_pool(*arguments, **options)
