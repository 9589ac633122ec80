"""Image files of every kind, and arrays, on their way to `ops.resize_normalize`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from image_files import HEIGHT, WIDTH, random_pixels, single, write_png16
from PIL import Image

from efficientad_ext import ops
from efficientad_ext.images import find_images, iterate_images, load_image


def assert_loads_as(path, expected: np.ndarray) -> None:
    loaded = load_image(path)
    assert loaded.dtype == expected.dtype
    assert loaded.dtype.isnative
    assert loaded.flags.c_contiguous
    np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_colour(tmp_path, suffix):
    pixels = random_pixels(3)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", lossless=True)
    assert_loads_as(tmp_path / f"a{suffix}", pixels)


def test_gray(tmp_path):
    pixels = random_pixels()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert_loads_as(tmp_path / "a.png", pixels)
    assert_loads_as(str(tmp_path / "a.png"), pixels)


def test_alpha_is_kept(tmp_path):
    pixels = random_pixels(4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert_loads_as(tmp_path / "a.png", pixels)


def test_gray_with_alpha_becomes_colour_with_alpha(tmp_path):
    pixels = random_pixels(2)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert_loads_as(tmp_path / "a.png", pixels[..., [0, 0, 0, 1]])


def test_one_bit(tmp_path):
    pixels = random_pixels() > 127
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert_loads_as(tmp_path / "a.png", np.where(pixels, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("transparent", [False, True])
def test_palette(tmp_path, transparent):
    colours = np.random.default_rng().integers(0, 256, (256, 3), dtype=np.uint8)
    indices = random_pixels()
    indices[0, 0] = 9
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "a.png", **({"transparency": 9} if transparent else {}))
    expected = colours[indices]
    if transparent:
        alpha = np.where(indices == 9, 0, 255).astype(np.uint8)
        expected = np.concatenate([expected, alpha[..., None]], axis=-1)
    assert_loads_as(tmp_path / "a.png", expected)


def test_transparent_colour_becomes_alpha(tmp_path):
    pixels = random_pixels(3)
    pixels[2, 3] = key = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=key)
    alpha = np.where((pixels == key).all(-1), 0, 255).astype(np.uint8)
    assert_loads_as(tmp_path / "a.png", np.concatenate([pixels, alpha[..., None]], axis=-1))


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.fromarray(random_pixels(3)).convert("CMYK")
    image.save(tmp_path / "a.tif")
    assert_loads_as(tmp_path / "a.tif", np.array(image.convert("RGB")))


def test_16_bit_gray_png(tmp_path):
    pixels = random_pixels(bits=16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert_loads_as(tmp_path / "a.png", pixels)


@pytest.mark.parametrize(("channels", "colour_type"), [(3, 2), (4, 6)])
def test_16_bit_colour_png(tmp_path, channels, colour_type):
    pixels = random_pixels(channels, bits=16)
    write_png16(tmp_path / "a.png", pixels, colour_type)
    assert_loads_as(tmp_path / "a.png", pixels)


def test_16_bit_gray_with_alpha_png_keeps_the_upper_bits(tmp_path):
    pixels = random_pixels(2, bits=16)
    write_png16(tmp_path / "a.png", pixels, 4)
    assert_loads_as(tmp_path / "a.png", (pixels >> 8).astype(np.uint8)[..., [0, 0, 0, 1]])


def test_16_bit_pgm(tmp_path):
    pixels = random_pixels(bits=16)
    header = f"P5 {WIDTH} {HEIGHT} 65535\n".encode()
    (tmp_path / "a.pgm").write_bytes(header + pixels.astype(">u2").tobytes())
    assert_loads_as(tmp_path / "a.pgm", pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)], ids=str)
def test_16_bit_tiff(tmp_path, channels, byteorder):
    pixels = random_pixels(*channels, bits=16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        byteorder=byteorder,
        photometric="rgb" if channels in ((3,), (4,)) else "minisblack",
        extrasamples=["unassalpha"] if channels in ((2,), (4,)) else None,
    )
    assert_loads_as(tmp_path / "a.tif", pixels[..., [0, 0, 0, 1]] if channels == (2,) else pixels)


def test_16_bit_tiff_in_planes(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(random_pixels(3, bits=16), -1, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert_loads_as(tmp_path / "a.tif", np.moveaxis(planes, 0, -1))


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_in_which_white_is_zero(tmp_path, bits):
    pixels = random_pixels(bits=bits)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    assert_loads_as(tmp_path / "a.tif", np.iinfo(pixels.dtype).max - pixels)


def test_first_page_of_a_tiff(tmp_path):
    pages = np.stack([random_pixels(3, bits=16) for _ in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    assert_loads_as(tmp_path / "a.tif", pages[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [(), (3,)], ids=str)
def test_floating_tiff_is_scaled_to_16_bits(tmp_path, dtype, channels):
    values = np.random.default_rng().random((HEIGHT, WIDTH, *channels)).astype(dtype)
    values[0, 0], values[1, 1] = 0, 1
    photometric = "rgb" if channels else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
    loaded = load_image(tmp_path / "a.tif")
    assert loaded.dtype == np.uint16
    np.testing.assert_allclose(loaded / 65535, values.astype(np.float64), rtol=0, atol=0.51 / 65535)


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan, np.inf])
def test_floating_tiff_outside_the_range(tmp_path, value):
    values = np.random.default_rng().random((HEIGHT, WIDTH)).astype(np.float32)
    values[3, 4] = value
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(ValueError, match=r"a\.tif cannot be read .*expected \[0, 1\] without NaN"):
        load_image(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32])
def test_tiff_without_a_defined_range(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", random_pixels().astype(dtype))
    with pytest.raises(ValueError, match=r"a\.tif cannot be read .*expected 8 or 16 bits"):
        load_image(tmp_path / "a.tif")


UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: np.rot90(x, 2),
    4: lambda x: x[::-1],
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.swapaxes(np.rot90(x, 2), 0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["png", "tiff gray", "tiff colour 16"])
def test_exif_orientation(tmp_path, kind, orientation):
    path = tmp_path / "a"
    if kind == "png":
        pixels = random_pixels(3)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(path, "PNG", exif=exif)
    else:
        gray = kind == "tiff gray"
        pixels = random_pixels() if gray else random_pixels(3, bits=16)
        tifffile.imwrite(
            path,
            pixels,
            photometric="minisblack" if gray else "rgb",
            extratags=[(0x0112, "H", 1, orientation, True)],
        )
    assert_loads_as(path, UPRIGHT[orientation](pixels))


def test_jpeg_is_read_whole(tmp_path):
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    pixels = np.stack([x * 4, y * 5, x + y], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    np.testing.assert_allclose(load_image(tmp_path / "a.jpg").astype(int), pixels, atol=8)


def test_truncated_jpeg(tmp_path):
    noise = np.random.default_rng().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"half\.jpg cannot be read as an image: .*truncated"):
        load_image(tmp_path / "half.jpg")


def value_error_of(path) -> str:
    try:
        load_image(path)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
def test_damaged_file_never_escapes_as_another_error(tmp_path, kind):
    path = tmp_path / "damaged"
    Image.fromarray(random_pixels(3)).save(path, kind)
    data = path.read_bytes()
    random = np.random.default_rng()
    for _ in range(100):
        damaged = bytearray(data[: random.integers(1, len(data) + 1)])
        damaged[random.integers(len(damaged))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        # Without an error, the damage has left an image.
        assert re.fullmatch(r"|[^\n]*damaged[^\n]*", value_error_of(path))


def test_text_named_png(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"text\.png cannot be read as an image"):
        load_image(tmp_path / "text.png")


def test_empty_file(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty\.png is an empty file; expected an image"):
        load_image(tmp_path / "empty.png")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.png does not exist"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="is a folder; expected an image file"):
        load_image(tmp_path)


def test_large_image_is_read_and_a_huge_one_is_an_error(tmp_path, monkeypatch):
    pixels = random_pixels()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        assert_loads_as(tmp_path / "a.png", pixels)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image: .*exceeds limit"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("package", ["PIL", "tifffile"])
def test_missing_package_is_named(tmp_path, monkeypatch, package):
    tifffile.imwrite(tmp_path / "a.tif", random_pixels(3, bits=16), photometric="rgb")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="pip install"):
        load_image(tmp_path / "a.tif")


def test_find_images_sorted_in_subfolders_without_hidden_ones(tmp_path):
    for name in (
        "b/2.PNG",
        "b/10.jpg",
        "a.tiff",
        "notes.txt",
        ".hidden.png",
        ".git/x.png",
        "c.bmp",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = find_images(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a.tiff",
        "b/10.jpg",
        "b/2.PNG",
        "c.bmp",
    ]
    assert find_images(str(tmp_path)) == found
    assert find_images(tmp_path / "folder.png") == []


def test_find_images_needs_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        find_images(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file; expected a folder"):
        find_images(tmp_path / "file")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)], ids=str)
def test_integer_images_pass_as_they_are(bits, channels):
    pixels = random_pixels(*channels, bits=bits)
    expected = torch.from_numpy(pixels)
    assert torch.equal(single(pixels), expected)
    assert torch.equal(single(expected), expected)
    assert torch.equal(single([pixels]), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_images_become_float32(dtype):
    pixels = np.random.default_rng().random((3, HEIGHT, WIDTH)).astype(dtype)
    assert single(pixels).dtype == torch.float32
    assert torch.equal(single(pixels), torch.from_numpy(pixels.astype(np.float32)))


def test_batches_and_mixtures_are_taken_apart():
    batch = np.stack([random_pixels(3) for _ in range(3)])
    gray = random_pixels()
    floating = torch.rand(2, 1, HEIGHT, WIDTH)
    images = list(iterate_images([batch, gray, floating]))
    expected = [*torch.from_numpy(batch), torch.from_numpy(gray), *floating]
    assert len(images) == 6
    assert all(torch.equal(a, b) for a, b in zip(images, expected, strict=True))


def test_any_numpy_memory_is_taken():
    pixels = random_pixels(3, bits=16)
    foreign = pixels.astype(pixels.dtype.newbyteorder())
    flipped = pixels[::-1, :, ::-1]
    constant = pixels.copy()
    constant.flags.writeable = False
    assert torch.equal(single(foreign), torch.from_numpy(pixels))
    assert torch.equal(single(flipped), torch.from_numpy(flipped.copy()))
    assert torch.equal(single(constant), torch.from_numpy(pixels))


def test_no_image():
    assert list(iterate_images([])) == []
    assert list(iterate_images(np.empty((0, HEIGHT, WIDTH, 3), np.uint8))) == []


def with_value(value: float) -> torch.Tensor:
    image = torch.rand(3, HEIGHT, WIDTH)
    image[1, 2, 3] = value
    return image


def test_rounding_beyond_the_range_is_taken():
    assert single(with_value(1 + 1e-6)).max() > 1
    assert single(with_value(-1e-6)).min() < 0


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (with_value(float("nan")), ValueError, "from nan to nan; expected a floating image within"),
        (with_value(float("inf")), ValueError, "to inf; expected"),
        (with_value(255.0), ValueError, r"to 255; expected .* within \[0, 1\]"),
        (with_value(-0.5), ValueError, "from -0.5 to"),
        (torch.rand(HEIGHT, WIDTH), ValueError, r"shape \(5, 7\); expected \(C, H, W\)"),
        (torch.rand(HEIGHT, WIDTH, 3), ValueError, r"shape \(5, 7, 3\); expected \(C, H, W\)"),
        (random_pixels(2), ValueError, "with 1, 3 or 4 channels"),
        (random_pixels(1, 1, 3), ValueError, r"shape \(5, 7, 1, 1, 3\)"),
        (np.zeros((), np.uint8), ValueError, r"shape \(\); expected"),
        (np.zeros((0, 7, 3), np.uint8), ValueError, "without pixels"),
        (torch.zeros(3, 5, 0), ValueError, "without pixels"),
        (random_pixels().astype(np.int64), TypeError, "torch.int64; expected uint8, uint16, or a"),
        (random_pixels() > 9, TypeError, "torch.bool; expected uint8"),
        (random_pixels().astype(object), TypeError, "element type object; expected uint8"),
        (random_pixels().astype(complex), TypeError, "element type complex128; expected uint8"),
    ],
)
def test_what_is_not_an_image(image, error, message):
    with pytest.raises(error, match=f"the image .*{message}"):
        list(iterate_images(image))
    with pytest.raises(error, match=f"image 1 .*{message}"):
        list(iterate_images([random_pixels(), image]))


def test_what_is_no_array_at_all():
    with pytest.raises(TypeError, match="images is of type int; expected a path"):
        list(iterate_images(3))
    with pytest.raises(TypeError, match="image 0 is of type NoneType; expected a path"):
        list(iterate_images([None]))


def test_images_are_read_when_their_turn_comes(tmp_path):
    pixels = random_pixels(3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = iterate_images([tmp_path / "a.png", tmp_path / "absent.png"])
    assert torch.equal(next(images), torch.from_numpy(pixels))
    with pytest.raises(FileNotFoundError, match="absent"):
        next(images)


def test_importing_the_package_pulls_in_nothing_else():
    program = (
        "import sys, torch, numpy; before = set(sys.modules); import efficientad_ext; "
        "import efficientad_ext.detector; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new & {'PIL', 'tifffile', 'safetensors', 'click', 'tqdm', 'sklearn', "
        "'scipy', 'torchvision', 'efficientad'}))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    store, folder = tmp_path / "store", tmp_path / "folder"
    store.mkdir()
    folder.mkdir()
    Image.new("L", (2, 2)).save(store / "a.png")
    (folder / "one").symlink_to(store)
    (folder / "two").symlink_to(store)
    (store / "back").symlink_to(folder)
    (store / "itself").symlink_to(store)
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert find_images(folder) == [
        folder / "gone.png", folder / "one/a.png", folder / "two/a.png"
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        load_image(folder / "gone.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_the_fourth_sample_of_a_tiff_means(tmp_path: Path, dtype: type):
    most = np.iinfo(dtype).max
    pixels = np.full((3, 5, 4), most // 2, dtype)
    pixels[..., 3] = most // 4
    pixels[0, 0] = 0
    path = tmp_path / "image.tiff"

    def read(meaning: str) -> np.ndarray:
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[meaning])
        image = torch.from_numpy(load_image(path))
        plain = {"mean": (0, 0, 0), "deviation": (1, 1, 1)}
        return ops.resize_normalize(image, (3, 5), **plain)[0].movedim(0, -1).numpy()

    colour, alpha = pixels[..., :3] / most, pixels[..., 3:] / most
    np.testing.assert_allclose(read("unassalpha"), colour * alpha + 1 - alpha, atol=1e-6)
    if dtype is np.uint16:  # Pillow reads those of 8 bits
        np.testing.assert_allclose(read("unspecified"), colour, atol=1e-6)
        # More colour than alpha is none that was multiplied by it.
        expected = np.minimum(colour, alpha) + 1 - alpha
        np.testing.assert_allclose(read("assocalpha"), expected, atol=1e-4)


def test_a_resize_of_no_tensor():
    with pytest.raises(TypeError, match="the image is of type ndarray"):
        ops.resize_normalize(np.zeros((4, 4), np.uint8), (2, 2))
