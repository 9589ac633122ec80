"""Images of Pillow are what their files are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from image_files import random_pixels, single, write_png16
from PIL import Image

from efficientad_ext.images import load_image


def pillow_files(folder: Path) -> dict[str, Path]:
    """Image files of many kinds, by what they are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    colour, with_alpha = Image.fromarray(random_pixels(3)), Image.fromarray(random_pixels(4))
    images = {
        "gray.png": (Image.fromarray(random_pixels()), {}),
        "gray and alpha.png": (Image.fromarray(random_pixels(2)), {}),
        "one bit.png": (Image.fromarray(random_pixels() > 127), {}),
        "16 bits.png": (Image.fromarray(random_pixels(bits=16)), {}),
        "colour.png": (colour, {}),
        "transparent colour.png": (colour, {"transparency": colour.getpixel((2, 3))}),
        "alpha.png": (with_alpha, {}),
        "palette.png": (colour.quantize(8), {}),
        "transparent palette.png": (colour.quantize(8), {"transparency": 3}),
        "turned.jpg": (colour, {"exif": exif}),
        "turned.png": (colour, {"exif": exif}),
        "turned.tif": (colour, {"exif": exif}),
        "turned.webp": (colour, {"exif": exif}),
        "cmyk.tif": (colour.convert("CMYK"), {}),
        "palette.gif": (colour.quantize(8), {}),
        "gray.pgm": (Image.fromarray(random_pixels()), {}),
        "colour.bmp": (colour, {}),
    }
    for name, (image, settings) in images.items():
        image.save(folder / name, **settings)
    return {name: folder / name for name in images}


def test_images_of_pillow_are_what_their_files_are(tmp_path):
    for name, path in pillow_files(tmp_path).items():
        expected = torch.from_numpy(load_image(path))
        with Image.open(path) as image:
            assert torch.equal(single(image), expected), name
            assert torch.equal(single([image]), expected), name
            image.load()
            assert torch.equal(single(image), expected), name
        assert torch.equal(single(Image.open(io.BytesIO(path.read_bytes()))), expected), name
        with Image.open(path) as image:
            copy = image.copy()
            assert torch.equal(single(copy), expected), name


@pytest.mark.parametrize("kind", ["png", "tiff", "white is zero"])
def test_16_bits_of_an_image_of_pillow(tmp_path, kind):
    """As long as Pillow has not read them: then it keeps 8 in colour."""
    path = tmp_path / "image"
    if kind == "white is zero":
        tifffile.imwrite(path, random_pixels(bits=16), photometric="miniswhite")
    elif kind == "tiff":
        tifffile.imwrite(path, random_pixels(3, bits=16), photometric="rgb")
    else:
        write_png16(path, random_pixels(3, bits=16), 2)
    expected = torch.from_numpy(load_image(path))
    assert expected.dtype == torch.uint16
    with Image.open(path) as image:
        for _ in range(2):
            assert torch.equal(single(image), expected)
        # It can still be read by whoever else has it.
        with Image.open(path) as other:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(other))


def test_the_current_frame_of_an_image_of_pillow(tmp_path):
    frames = [random_pixels(3) for _ in range(3)]
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    with Image.open(tmp_path / "a.tif") as image:
        for number in (2, 0, 1):
            image.seek(number)
            assert torch.equal(single(image), torch.from_numpy(frames[number]))


def test_a_palette_with_alpha():
    image = Image.fromarray(random_pixels(4)).quantize(8)
    assert image.palette.mode == "RGBA"
    assert torch.equal(single(image), torch.from_numpy(np.array(image.convert("RGBA"))))


def test_what_no_image_of_pillow_may_be(tmp_path):
    Image.fromarray(random_pixels(3)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as closed:
        pass
    with pytest.raises(ValueError, match=r"the image cannot be read as an image: its file is clos"):
        single(closed)
    with pytest.raises(ValueError, match=r"image 0 cannot be read as an image: .* int32; expected"):
        single([Image.new("I", (3, 2))])
    with pytest.raises(ValueError, match=r"the image has shape \(0, 3\), which is without pixels"):
        single(Image.new("L", (3, 0)))
    noise = Image.fromarray(np.random.default_rng().integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "a.jpg")
    half = (tmp_path / "a.jpg").read_bytes()[:2000]
    with pytest.raises(ValueError, match=r"the image cannot be read as an image: .*truncated"):
        single(Image.open(io.BytesIO(half)))
