"""Images as they come, from files and from arrays, made ready for `ops.resize_normalize`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from efficientad_ext._image_decoding import decode, decode_pillow_image, is_pillow_image

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
"""Lower-case suffixes of the files that `find_images` takes for images."""

ROUNDING = 1e-3
"""How far a floating image may leave [0, 1]: what an earlier resize may have added by rounding."""

# In quotes, as Pillow is not imported before there is something to read.
SingleImage: TypeAlias = "str | os.PathLike[str] | np.ndarray[Any, Any] | Tensor | Image.Image"
Images: TypeAlias = "SingleImage | Iterable[SingleImage]"


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """All image files in a folder and its subfolders, sorted by path; hidden files are left out.

    Links to folders are followed, and links to nothing are among the images, for who reads them to
    report.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: the path is not a folder.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder of images")
    return sorted(_image_files(folder, frozenset({os.path.realpath(folder)})))


def _image_files(folder: Path, within: frozenset[str]) -> Iterator[Path]:
    """``within``: real paths of the folder and of those that it lies in, to find loops."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            real = os.path.realpath(path)
            if real not in within:
                yield from _image_files(path, within | {real})
        elif path.suffix.lower() in IMAGE_SUFFIXES and (path.is_file() or path.is_symlink()):
            yield path


def load_image(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """Reads an image file; of an animation or a stack of pages, the first image.

    Returns:
        A uint8 or uint16 array of shape (H, W), (H, W, 3) or (H, W, 4) in the order red, green,
        blue, alpha. 16 bits are kept (gray with alpha in a PNG: 8 bits); floating TIFF in [0, 1] is
        scaled to 16 bits. A palette becomes colour, with alpha where it has transparency; the EXIF
        orientation is applied; CMYK and other colour spaces become RGB.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: the file is not an image, is damaged, or holds a kind of pixels that has no
            defined range, such as 32-bit integers; the message names the file.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected an image file")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the image {path} does not exist") from error
    if not data:
        raise ValueError(f"{path} is an empty file; expected an image")
    with _named_errors(str(path)):
        return decode(data)


def iterate_images(images: Images) -> Iterator[Tensor]:
    """Single images, each as a tensor that `ops.resize_normalize` takes.

    Args:
        images: one image, a batch, or an iterable of images, of any mixture of sizes:
            paths, read when their turn comes; images of Pillow, read as `load_image` reads a file
            with them (but once Pillow has read a file of 16 bits, it has kept 8 of them in colour,
            and the negative of gray in a TIFF whose white is 0); uint8 or uint16 arrays or tensors
            of shape (H, W), (H, W, C) or (N, H, W, C); floating ones with values in [0, 1] of shape
            (C, H, W) or (N, C, H, W). C is 1, 3 or 4.

    Yields:
        uint8 or uint16 tensors of shape (H, W) or (H, W, C), float32 tensors of shape (C, H, W).

    Raises:
        TypeError: something else than an image, or another element type.
        ValueError: another shape, an image without pixels, NaN, infinity, or floating values
            outside [0, 1]; and what `load_image` raises.
    """
    if isinstance(images, str | os.PathLike | np.ndarray | Tensor) or is_pillow_image(images):
        yield from _single_images(images, "the image")
    elif isinstance(images, Iterable):
        for number, image in enumerate(images):
            yield from _single_images(image, f"image {number}")
    else:
        raise TypeError(
            f"images is of type {type(images).__name__}; expected a path, an array, a tensor, an "
            "image of Pillow, or a sequence of these"
        )


def _single_images(image: SingleImage, name: str) -> Iterator[Tensor]:
    if isinstance(image, str | os.PathLike):
        yield torch.from_numpy(load_image(image))
        return
    if is_pillow_image(image):
        with _named_errors(name):
            image = decode_pillow_image(image)
    if isinstance(image, np.ndarray):
        tensor = _tensor_from(image, name)
    elif isinstance(image, Tensor):
        tensor = image
    else:
        raise TypeError(
            f"{name} is of type {type(image).__name__}; expected a path, a numpy array, a torch "
            "tensor or an image of Pillow"
        )
    if tensor.dtype in (torch.uint8, torch.uint16):
        yield from _integer_images(tensor, name)
    elif tensor.dtype.is_floating_point:
        yield from _floating_images(tensor, name)
    else:
        raise TypeError(
            f"{name} has element type {tensor.dtype}; expected uint8, uint16, or a floating type "
            "with values in [0, 1]"
        )


def _tensor_from(array: np.ndarray[Any, Any], name: str) -> Tensor:
    if array.dtype.kind not in "buif":
        raise TypeError(
            f"{name} has element type {array.dtype}; expected uint8, uint16, or a floating type "
            "with values in [0, 1]"
        )
    # torch takes neither foreign byte orders nor negative strides nor read-only memory.
    native = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(native if native.flags.writeable else native.copy())


def _integer_images(tensor: Tensor, name: str) -> Iterator[Tensor]:
    shape = tuple(tensor.shape)
    if len(shape) not in (2, 3, 4) or (len(shape) > 2 and shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"{name} of {tensor.dtype} has shape {shape}; expected (H, W), (H, W, C) or "
            "(N, H, W, C) with 1, 3 or 4 channels"
        )
    height_and_width = shape if len(shape) == 2 else shape[-3:-1]
    _check_has_pixels(height_and_width, shape, name)
    yield from tensor if len(shape) == 4 else (tensor,)


def _floating_images(tensor: Tensor, name: str) -> Iterator[Tensor]:
    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4) or shape[-3] not in (1, 3, 4):
        raise ValueError(
            f"{name} of {tensor.dtype} has shape {shape}; expected (C, H, W) or (N, C, H, W) with "
            "1, 3 or 4 channels"
        )
    _check_has_pixels(shape[-2:], shape, name)
    for pixels in tensor if len(shape) == 4 else (tensor,):
        pixels = pixels.detach().to(torch.float32)
        lowest, highest = (float(value) for value in torch.aminmax(pixels))
        # Written so that NaN, which aminmax passes on, fails too.
        if not (lowest >= -ROUNDING and highest <= 1 + ROUNDING):
            raise ValueError(
                f"{name} has values from {lowest:g} to {highest:g}; expected a floating image "
                "within [0, 1] and without NaN: scale it, or pass uint8 or uint16"
            )
        yield pixels


def _check_has_pixels(height_and_width: tuple[int, ...], shape: tuple[int, ...], name: str) -> None:
    if min(height_and_width) == 0:
        raise ValueError(f"{name} has shape {shape}, which is without pixels")


@contextlib.contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ValueError(f"{name} cannot be read as an image: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
