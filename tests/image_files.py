"""Images for tests, as files and as what becomes of them."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import torch

from efficientad_ext.images import iterate_images

HEIGHT, WIDTH = 5, 7


def random_pixels(*channels: int, bits: int = 8) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng().integers(0, 2**bits, (HEIGHT, WIDTH, *channels), dtype=dtype)


def write_png16(path, pixels: np.ndarray, colour_type: int) -> None:
    """A 16-bit PNG, which Pillow writes for gray only; every row uses the Sub filter."""
    bytes_per_pixel = 2 * (1 if pixels.ndim == 2 else pixels.shape[-1])
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(len(pixels), -1)
    left = np.pad(rows, ((0, 0), (bytes_per_pixel, 0)))[:, : rows.shape[1]]
    filtered = np.pad(rows - left, ((0, 0), (1, 0)), constant_values=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(filtered.tobytes()))
        + chunk(b"IEND", b"")
    )


def single(images) -> torch.Tensor:
    (image,) = iterate_images(images)
    return image
