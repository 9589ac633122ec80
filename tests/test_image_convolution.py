from __future__ import annotations

import pytest
import torch

from efficientad_ext import _C, reference
from efficientad_ext.reference.image_convolution import pack_weight

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# (batch, height, width, output channels): sizes that are no multiple of any tile, even and odd, and
# the smallest image with an output.
SHAPES = [(1, 5, 5, 64), (3, 22, 19, 64), (2, 13, 40, 128), (1, 70, 37, 64)]


def random_images(shape, *, as_bytes):
    """Images (N, 3, height, width): whole numbers from 0 to 255, or numbers from 0 to 1."""
    batch, height, width, _ = shape
    if as_bytes:
        return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    return torch.rand(batch, 3, height, width)


def random_parameters(convolutions, outputs, *, as_bytes):
    """Weight and bias as with a normalisation folded in: activations of about 1."""
    weight = torch.randn(outputs, 4, 4, 4) / 5
    if as_bytes:
        weight[:, :3] /= 255
    return convolutions.operand(weight), convolutions.accumulator(torch.randn(outputs))


def output_length(length, pooled):
    return (length - 3) // 2 if pooled else length // 2


def run(convolutions, image, weight, bias, pooled):
    """The kernel on images (N, 3, height, width), in the layout that it reads."""
    batch, _, height, width = image.shape
    output = torch.empty(
        (batch, output_length(height, pooled), output_length(width, pooled), weight.shape[0]),
        dtype=convolutions.dtype,
        device=convolutions.device,
    )
    stored = (
        image.permute(0, 2, 3, 1).contiguous()
        if image.dtype == torch.uint8
        else convolutions.accumulator(image)
    )
    rows = pack_weight(weight)
    packed = convolutions.packed(rows.flatten(1)).view_as(rows)
    convolutions.run(
        "image_convolution", stored.to(convolutions.device), packed, bias, pooled, output
    )
    return output


def expected_of(convolutions, image, weight, bias, pooled):
    exact = (tensor.double() for tensor in (image.to(convolutions.device), weight, bias))
    return reference.image_convolution(*exact, pooled=pooled)


@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "numbers"])
@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "stride 2"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(convolutions, shape, pooled, as_bytes, assert_matches):
    image = random_images(shape, as_bytes=as_bytes)
    if not as_bytes:
        # What every type represents, since a backend may round pixels to the weight's type.
        image = convolutions.operand(image).cpu()
    weight, bias = random_parameters(convolutions, shape[3], as_bytes=as_bytes)
    actual = run(convolutions, image, weight, bias, pooled)
    expected = expected_of(convolutions, image, weight, bias, pooled)
    # One rounding of the result.
    assert_matches(actual, expected, convolutions.stored)


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "stride 2"])
def test_pixels_with_more_digits_than_the_weight(convolutions, pooled, assert_matches):
    image = random_images(SHAPES[1], as_bytes=False)
    weight, bias = random_parameters(convolutions, 64, as_bytes=False)
    actual = run(convolutions, image, weight, bias, pooled)
    expected = expected_of(convolutions, image, weight, bias, pooled)
    # Each of 48 pixels is off by half a unit of its last place at most, or by a whole one where a
    # tensor core cuts it off; the errors have different signs and partly cancel.
    assert_matches(actual, expected, convolutions.stored, factor=2)


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "stride 2"])
def test_what_rounding_takes_from_a_pixel_is_given_to_its_neighbour(convolutions, pooled):
    if convolutions.on_a_gpu:
        pytest.skip("tensor cores cut pixels off")
    # Rounded by itself, every pixel would lose as much: nothing would be left of the sums.
    unit = max(torch.finfo(convolutions.dtype).eps, 2**-10) / 2
    beyond = 0.45 * unit
    image = torch.full((1, 3, 12, 200), 0.5 + beyond, dtype=convolutions.summed)
    weight = torch.zeros(64, 4, 4, 4)
    weight[:, 0] = 1
    bias = convolutions.accumulator(torch.full((64,), -8.0))
    actual = run(convolutions, image, convolutions.operand(weight), bias, pooled)
    inside = actual[:, 1:-1, 1:-1].double()
    # Four rows of four pixels, of each of which as much goes to the right as came from the left, in
    # the mean over many.
    assert inside.mean() == pytest.approx(16 * beyond, rel=0.05)


def test_border_is_the_mean_colour(convolutions):
    """Zeros are padded behind the normalisation: the fourth channel is zero there, not one."""
    weight = torch.zeros(64, 4, 4, 4)
    weight[:, 3] = 1
    image = random_images((1, 8, 10, 64), as_bytes=True)
    bias = convolutions.accumulator(torch.full((64,), 0.5))
    actual = run(convolutions, image, convolutions.operand(weight), bias, False)
    pixels = torch.full((4, 5), 16.0)
    pixels[[0, -1]] *= 0.75
    pixels[:, [0, -1]] *= 0.75
    expected = (pixels + 0.5).view(1, 4, 5, 1).expand(1, 4, 5, 64)
    # A few small numbers of few digits: exact in every type.
    assert torch.equal(actual.float().cpu(), expected)


def test_repeatable(convolutions):
    image = random_images(SHAPES[1], as_bytes=True)
    parameters = random_parameters(convolutions, 64, as_bytes=True)
    first = run(convolutions, image, *parameters, True)
    assert torch.equal(run(convolutions, image, *parameters, True), first)


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "stride 2"])
def test_nan_passes(convolutions, pooled):
    image = random_images((2, 11, 12, 64), as_bytes=False)
    image[1, 2, 5, 6] = float("nan")
    weight, bias = random_parameters(convolutions, 64, as_bytes=False)
    actual = run(convolutions, image, weight, bias, pooled)
    expected = expected_of(convolutions, image, weight, bias, pooled)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert actual.isnan().any()


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "stride 2"])
def test_what_overflows_reaches_no_further_than_its_windows(convolutions, pooled):
    image = random_images((1, 11, 40, 64), as_bytes=False)
    image[0, 1, 5, 6] = 1e6  # infinite in float16
    weight, bias = random_parameters(convolutions, 64, as_bytes=False)
    actual = run(convolutions, image, weight, bias, pooled)
    assert actual[:, :, 6:].isfinite().all()


def test_empty(convolutions):
    image = random_images((0, 9, 9, 64), as_bytes=True)
    parameters = random_parameters(convolutions, 64, as_bytes=True)
    assert run(convolutions, image, *parameters, True).numel() == 0


def call(**changes):
    arguments = {
        "image": torch.zeros(2, 9, 11, 3, dtype=torch.uint8),
        "weight": torch.randn(64, 4, 4, 4),
        "bias": torch.randn(64),
        "pooled": True,
        "output": torch.empty(2, 3, 4, 64),
    }
    _C.cpu.image_convolution(1, *{**arguments, **changes}.values())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": torch.zeros(2, 3, 9, 11, dtype=torch.uint8)}, "expected uint8 images"),
        ({"image": torch.zeros(2, 9, 11, 3)}, "expected uint8 images"),
        ({"image": torch.zeros(2, 3, 9, 11).double()}, "expected uint8 images"),
        ({"image": torch.zeros(9, 11, 3, dtype=torch.uint8)}, "expected uint8 images"),
        ({"image": torch.zeros(2, 9, 22, 3, dtype=torch.uint8)[:, :, ::2]}, "contiguous"),
        ({"image": torch.zeros(2, 3, 3, 3, dtype=torch.uint8)}, "smaller than"),
        ({"weight": torch.randn(64, 3, 4, 4)}, "expected a weight"),
        ({"weight": torch.randn(32, 4, 4, 4)}, "expected a weight"),
        ({"bias": torch.randn(128)}, "the bias does not fit"),
        ({"pooled": False}, "the output does not fit"),
        ({"output": torch.empty(2, 4, 3, 64)}, "the output does not fit"),
    ],
)
def test_what_would_leave_a_tensor_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(**changes)


def test_the_call_that_is_changed_is_right():
    call()
    call(pooled=False, output=torch.empty(2, 4, 5, 64))
