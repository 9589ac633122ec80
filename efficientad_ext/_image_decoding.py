"""From the bytes of an image file to a numpy array, without losing 16 bits on the way."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

Pixels: TypeAlias = np.ndarray[Any, Any]

_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _SAMPLES_PER_PIXEL = 258, 262, 274, 277
_WHITE_IS_ZERO = 0
_UNSPECIFIED, _MULTIPLIED_ALPHA, _ALPHA = 0, 1, 2
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decode(data: bytes) -> Pixels:
    """The pixels of an image file, as `images.load_image` documents them.

    Raises:
        ImportError: the package that reads this format is missing.
        Exception: the data is damaged or not an image; what is raised depends on the format.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("reading image files needs Pillow; run: pip install pillow") from error
    try:
        image: Any = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if data[:4] in _TIFF_SIGNATURES:
            return _decode_tiff(data)
        raise ValueError("its format is none that Pillow knows") from None
    if image.format == "TIFF" and _is_beyond_pillow(image.tag_v2):
        return _decode_tiff(data)
    if image.format == "PNG" and _raw_mode(image) in ("RGB;16B", "RGBA;16B"):
        pixels = _decode_deep_colour_png(image, data)
    else:
        pixels = _pillow_pixels(image)
    return _upright(pixels, image)


def is_pillow_image(image: object) -> TypeGuard[Image.Image]:
    """Whether it is a PIL.Image.Image: nobody has one who has not imported Pillow."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def decode_pillow_image(image: Any) -> Pixels:
    """The pixels of a PIL.Image.Image; where it is a file still to be read, those of `decode`.

    Raises:
        ValueError: the file is closed.
        Exception: see `decode`.
    """
    unread = bool(getattr(image, "tile", None))
    if unread and (image.fp is None or image.fp.closed):
        raise ValueError("its file is closed; call its load() before that")
    if unread and image.format in ("PNG", "TIFF") and image.tell() == 0:
        # What Pillow reads of 16 bits may be less than there is, or a negative.
        position = image.fp.tell()
        image.fp.seek(0)
        data = image.fp.read()
        image.fp.seek(position)
        return decode(data)
    return _upright(_pillow_pixels(image), image)


def _upright(pixels: Pixels, image: Any) -> Pixels:
    # The tag is read after the pixels: for some formats Pillow turns the image itself and drops it.
    return _oriented(pixels, image.getexif().get(_ORIENTATION, 1))


def _pillow_pixels(image: Any) -> Pixels:
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode == "I" and image.format in ("PNG", "PPM"):  # their integers have at most 16 bits
        return np.asarray(image).astype(np.uint16)
    if mode in ("I", "F"):
        return _as_stored_range(np.asarray(image))
    if image.has_transparency_data:
        return np.array(image.convert("RGBA"))
    if mode == "1":
        return np.array(image.convert("L"))
    if mode in ("L", "RGB"):
        return np.array(image)
    return np.array(image.convert("RGB"))


def _raw_mode(image: Any) -> str:
    return str(image.tile[0][3]) if image.tile else ""


def _decode_deep_colour_png(image: Any, data: bytes) -> Pixels:
    # Pillow unpacks one byte of each 16-bit sample. Asked for big-endian samples, as they are, it
    # takes the upper byte; asked for little-endian ones, the lower.
    from PIL import Image

    upper = np.asarray(image).astype(np.uint16)
    again: Any = Image.open(io.BytesIO(data))
    again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
    pixels: Pixels = upper << 8 | np.asarray(again)
    return pixels


def _is_beyond_pillow(tags: Any) -> bool:
    # Of 16 bits, Pillow keeps only the upper 8 in colour, and does not invert where white is 0.
    deep = max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8
    colour = tags.get(_SAMPLES_PER_PIXEL, 1) > 1
    return deep and (colour or bool(tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO))


def _decode_tiff(data: bytes) -> Pixels:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError("reading this TIFF needs tifffile; run: pip install tifffile") from error
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages.first
        photometric = page.photometric.name
        if photometric not in ("MINISWHITE", "MINISBLACK", "RGB"):
            raise ValueError(f"its colour space {photometric} is not supported; save it as RGB")
        pixels = _as_stored_range(page.asarray())
        if photometric == "MINISWHITE":
            pixels = np.iinfo(pixels.dtype).max - pixels
        extra = page.extrasamples
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        elif page.axes not in ("YX", "YXS"):
            raise ValueError(f"its axes are {page.axes}; expected a single two-dimensional image")
        tag = page.tags.get(_ORIENTATION)
        orientation = 1 if tag is None else int(tag.value)
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        pixels = _with_meaning(pixels, extra[0] if extra else _ALPHA)
    return _oriented(_with_colour_and_alpha(pixels), orientation)


def _with_meaning(pixels: Pixels, last: int) -> Pixels:
    """What a TIFF's last sample means: nothing, alpha that colours were multiplied by, or alpha."""
    if last == _UNSPECIFIED:
        return pixels[..., :-1]
    if last == _MULTIPLIED_ALPHA:
        most, alpha = np.iinfo(pixels.dtype).max, pixels[..., -1:].astype(np.float64)
        colour = np.rint(pixels[..., :-1] * (most / np.maximum(alpha, 1)))
        return np.concatenate([colour.clip(max=most).astype(pixels.dtype), pixels[..., -1:]], -1)
    return pixels


def _as_stored_range(pixels: Pixels) -> Pixels:
    """uint8 and uint16 as they are, floating values in [0, 1] as uint16."""
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN, too
            raise ValueError(
                f"its floating values reach from {pixels.min():g} to {pixels.max():g}; expected "
                "[0, 1] without NaN"
            )
        return np.rint(pixels.astype(np.float64) * 65535).astype(np.uint16)
    raise ValueError(
        f"its pixels are {pixels.dtype}; expected 8 or 16 bits without sign, or floating values "
        "in [0, 1]"
    )


def _with_colour_and_alpha(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    if pixels.shape[-1] == 2:
        return pixels[..., [0, 0, 0, 1]]
    if pixels.shape[-1] in (3, 4):
        return pixels
    raise ValueError(f"it has {pixels.shape[-1]} channels; expected 1 to 4")


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """The image upright, from its EXIF orientation (1 to 8, anything else counts as 1)."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
