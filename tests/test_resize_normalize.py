from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from efficientad_ext import ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# The normalisation subtracts up to 0.485 / 0.229 from values up to 1 / 0.225.
LARGEST = 1 / 0.225

SIZES = [(64, 64), (20, 50), (71, 33), (150, 161), (1, 1), (20, 1)]


def integer_image(shape, dtype):
    largest = 255 if dtype == torch.uint8 else 65535
    return torch.from_numpy(np.random.default_rng().integers(0, largest + 1, shape)).to(dtype)


def in_unit_range(image):
    """An integer image as the floating image, channels first, of the same values."""
    scaled = image.double() / (255 if image.dtype == torch.uint8 else 65535)
    return scaled.movedim(-1, -3) if image.dim() > 2 else scaled[None]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
def test_integer_images(backend, dtype, channels, size, assert_matches):
    image = integer_image((2, 71, 33, channels), dtype)
    expected = reference.resize_normalize(in_unit_range(image), size)
    actual = ops.resize_normalize(image.to(backend), size)
    assert actual.dtype == torch.float32
    assert actual.is_contiguous()
    assert_matches(actual, expected, torch.float32, intermediate=LARGEST)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floating_images(backend, dtype, in_layout, channels, size, assert_matches):
    image = in_layout(torch.rand(2, channels, 71, 33).to(dtype)).to(backend)
    expected = reference.resize_normalize(image.double(), size)
    actual = ops.resize_normalize(image, size)
    assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_matches(actual, expected, actual.dtype, intermediate=LARGEST)


@pytest.mark.parametrize("size", [(64, 64), (20, 50), (150, 161)], ids=str)
def test_equals_torch(size):
    image = torch.rand(2, 3, 71, 33, dtype=torch.float64)
    resized = torch.nn.functional.interpolate(
        image, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    actual = ops.resize_normalize(image, size, mean=(0, 0, 0), deviation=(1, 1, 1))
    torch.testing.assert_close(actual, resized, rtol=0, atol=1e-14)


def test_close_to_pillow():
    """Pillow rounds to whole numbers after each of its two passes; nothing more may differ."""
    image = integer_image((90, 120, 3), torch.uint8)
    resized = np.asarray(
        Image.fromarray(image.numpy()).resize((40, 32), Image.Resampling.BILINEAR), dtype=np.float64
    )
    actual = ops.resize_normalize(image, (32, 40), mean=(0, 0, 0), deviation=(1, 1, 1))[0]
    assert np.abs(actual.permute(1, 2, 0).numpy() * 255 - resized).max() < 1.01


def test_same_image_in_every_form(backend):
    """The layouts and depths that show the same picture give the same input."""
    gray = integer_image((40, 52), torch.uint8)
    expected = ops.resize_normalize(gray.to(backend), (33, 35))
    rgb = gray[..., None].expand(-1, -1, 3)
    opaque = torch.cat([rgb, torch.full((40, 52, 1), 255, dtype=torch.uint8)], dim=-1)
    deep = (gray.int() * 257).to(torch.uint16)
    floating = gray[None].double() / 255
    for image in (gray[..., None], rgb, opaque, deep, floating, rgb[None].contiguous()):
        actual = ops.resize_normalize(image.to(backend), (33, 35))
        torch.testing.assert_close(actual.float(), expected, rtol=0, atol=3e-6)


def test_alpha_is_composited_on_the_background(backend):
    image = integer_image((9, 9, 4), torch.uint8)
    image[..., 3] = 0
    background = (0.2, 0.4, 0.6)
    options = {"mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0), "background": background}
    actual = ops.resize_normalize(image.to(backend), (5, 5), **options)
    expected = torch.tensor(background).view(1, 3, 1, 1).expand(1, 3, 5, 5)
    torch.testing.assert_close(actual.cpu(), expected)


def test_constant_image_stays_constant(backend):
    image = torch.full((37, 41, 3), 200, dtype=torch.uint8, device=backend)
    options = {"mean": (0.5, 0.25, 0.0), "deviation": (0.5, 0.25, 2.0)}
    actual = ops.resize_normalize(image, (64, 20), **options)
    value = 200 / 255
    expected = torch.tensor([(value - 0.5) / 0.5, (value - 0.25) / 0.25, value / 2])
    torch.testing.assert_close(actual.cpu(), expected.view(1, 3, 1, 1).expand(1, 3, 64, 20))


def test_strided_views(backend, assert_matches):
    image = integer_image((60, 80, 3), torch.uint8).to(backend)
    for view in (image.flip(2), image[::2, ::3], image[5:50, 7:60], image.transpose(0, 1)):
        expected = reference.resize_normalize(in_unit_range(view.cpu()), (24, 25))
        actual = ops.resize_normalize(view, (24, 25))
        assert_matches(actual, expected, torch.float32, intermediate=LARGEST)


def test_extreme_scale(backend, assert_matches):
    image = integer_image((700, 3, 1), torch.uint8)
    expected = reference.resize_normalize(in_unit_range(image), (2, 150))
    actual = ops.resize_normalize(image.to(backend), (2, 150))
    assert_matches(actual, expected, torch.float32, intermediate=LARGEST)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gradient(backend, channels):
    image = torch.rand(1, channels, 7, 9, dtype=torch.float64, device=backend, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.resize_normalize(x, (5, 12)), (image,))


def test_empty_batch(backend):
    image = torch.zeros(0, 8, 8, 3, dtype=torch.uint8, device=backend)
    assert ops.resize_normalize(image, (4, 5)).shape == (0, 3, 4, 5)


def test_fake_tensors():
    constants = [0.5, 0.5, 0.5]
    for image in (
        torch.rand(2, 3, 9, 9, requires_grad=True),
        torch.zeros(2, 4, 9, 9, dtype=torch.uint8),
    ):
        torch.library.opcheck(
            torch.ops.efficientad_ext.resize_normalize.default,
            (image, 4, 5, constants, constants, constants),
        )


@pytest.mark.parametrize(
    ("image", "size", "error", "sentence"),
    [
        (torch.zeros(8, 8, 3).int(), (4, 4), TypeError, "uint8, uint16 or a floating type"),
        (torch.zeros(8, 8, 2).byte(), (4, 4), ValueError, "2 channels; expected 1, 3 or 4"),
        (torch.zeros(8, 8), (4, 4), ValueError, r"expected \(C, H, W\)"),
        (torch.zeros(3, 0, 8), (4, 4), ValueError, "without any pixel"),
        (torch.zeros(3, 8, 8), (4, -1), ValueError, "positive height and width"),
        (torch.zeros(1, 1, 3, 8, 8), (4, 4), ValueError, "expected"),
    ],
)
def test_bad_input(image, size, error, sentence):
    with pytest.raises(error, match=sentence):
        ops.resize_normalize(image, size)


@pytest.mark.parametrize(
    ("constants", "sentence"),
    [
        ({"background": (1.0,)}, "background is .* expected three numbers"),
        ({"mean": (0.0, float("nan"), 0.0)}, "mean is .* expected finite numbers"),
        ({"deviation": (1.0, 0.0, 1.0)}, "deviation is .* expected numbers above 0"),
        ({"deviation": (1.0, 1.0, -1.0)}, "deviation is .* expected numbers above 0"),
    ],
)
def test_bad_constants(constants, sentence):
    with pytest.raises(ValueError, match=sentence):
        ops.resize_normalize(torch.rand(3, 8, 8), (4, 4), **constants)
