"""Procedural images in place of photos for the pretraining penalty.

Generated images can train networks for natural ones if they share their simplest statistics: sharp
edges where objects occlude each other, the same structure at every scale, and an amplitude spectrum
near 1 / frequency (Baradad et al., Learning to See by Looking at Noise, 2021). Three kinds take
turns at random:

- coloured noise with such a spectrum, often stretched in one direction,
- dead leaves: shapes of one colour each that cover one another (Lee, Mumford and Huang 2001),
- dead leaves of which each has a texture of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels: TypeAlias = NDArray[np.float32]

# Leaves have radii between these shares of the image's shorter side, with density r^-2: there are
# half as many of twice the size, which hide twice the area.
_RADII = (0.015, 0.4)
# As many as hide nearly all of the ground.
_LEAVES = 250
# Shapes are drawn at twice the size and averaged, so that edges are smooth.
_OVERSAMPLING = 2
_LARGEST_CORNER_COUNT = 7
# Exponent of the amplitude spectrum; natural images are near 1.
_SPECTRAL_SLOPES = (0.6, 1.6)
_LARGEST_STRETCH = 6.0
_CHROMA = (0.05, 0.6)


def procedural_image(size: tuple[int, int], random: np.random.Generator) -> Tensor:
    """An image of one of the three kinds: (3, *size) float32 in [0, 1]."""
    kind = random.integers(3)
    if kind == 0:
        brightness, contrast = random.uniform(0.3, 0.7), random.uniform(0.08, 0.3)
        pixels = brightness + contrast * coloured_noise(size, random)
    else:
        pixels = dead_leaves(size, random, textured=kind == 2)
    return torch.from_numpy(np.ascontiguousarray(pixels.clip(0, 1).transpose(2, 0, 1)))


def coloured_noise(size: tuple[int, int], random: np.random.Generator) -> Pixels:
    """Gaussian noise whose amplitudes fall with a power of the frequency, in random colours.

    Returns:
        (*size, 3) with mean 0 and deviation 1 over all its values.
    """
    height, width = size
    angle, stretch = random.uniform(0, np.pi), _LARGEST_STRETCH ** random.uniform(0, 1)
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.rfftfreq(width)[None]
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    frequency = np.hypot(along * stretch, across)
    frequency[0, 0] = np.inf
    amplitude = frequency ** -random.uniform(*_SPECTRAL_SLOPES)
    # White noise has a white spectrum, so that the noise can begin as one.
    parts = random.standard_normal((3, *frequency.shape, 2), dtype=np.float32)
    spectrum = parts.view(np.complex64)[..., 0] * amplitude.astype(np.float32)
    planes = np.fft.irfft2(spectrum, s=size).reshape(3, -1)
    # The first plane is light and shadow, the others shift the colours.
    colours = random.standard_normal((3, 3), dtype=np.float32) * random.uniform(*_CHROMA)
    colours[0] = 1
    noise = planes.T.astype(np.float32) @ colours.astype(np.float32)
    return np.asarray(noise / noise.std(), dtype=np.float32).reshape(height, width, 3)


def dead_leaves(size: tuple[int, int], random: np.random.Generator, textured: bool) -> Pixels:
    """Ellipses and polygons of random sizes and colours over one another, (*size, 3) in [0, 1].

    Args:
        size: (height, width).
        random: where the randomness comes from.
        textured: whether each leaf shows a part of a coloured noise over its colour, at a
            contrast of its own.
    """
    height, width = size
    palette = _palette(random)
    picture = Image.new("RGB", (_OVERSAMPLING * width, _OVERSAMPLING * height), palette[0])
    owners = Image.new("I", (width, height), 0)
    draw_picture, draw_owners = ImageDraw.Draw(picture), ImageDraw.Draw(owners)
    for leaf, outline in enumerate(_outlines(size, random), start=1):
        draw_picture.polygon([*(outline * _OVERSAMPLING).flat], fill=palette[leaf])
        if textured:
            draw_owners.polygon([*outline.flat], fill=leaf)
    pixels: Pixels = np.asarray(picture.reduce(_OVERSAMPLING), dtype=np.float32)
    pixels = pixels / np.float32(255)
    if textured:
        noise = coloured_noise(size, random).reshape(-1, 3)
        owner = np.asarray(owners)
        contrast = random.uniform(0, 0.25, (_LEAVES + 1, 1)).astype(np.float32)
        # Each leaf sees the noise, which has no borders, moved by a distance of its own.
        moved = random.integers(0, height * width, _LEAVES + 1)
        place = (np.arange(height * width).reshape(size) + moved[owner]) % (height * width)
        pixels += contrast[owner] * noise[place]
    return pixels


def _palette(random: np.random.Generator) -> list[tuple[int, int, int]]:
    """A colour for each leaf and the ground: mostly of different brightness, less of hue."""
    light = random.uniform(0.05, 0.95, (_LEAVES + 1, 1))
    chroma = random.uniform(*_CHROMA) * random.uniform(-0.5, 0.5, (_LEAVES + 1, 3))
    cast = random.uniform(-0.1, 0.1, (1, 3))
    colours = (255 * (light + chroma + cast).clip(0, 1)).astype(int)
    return [tuple(colour) for colour in colours.tolist()]


def _outlines(size: tuple[int, int], random: np.random.Generator) -> list[NDArray[np.float64]]:
    """The leaves' corners as (column, row), each (corners, 2); the last leaf lies on top."""
    height, width = size
    smallest, largest = (share * min(size) for share in _RADII)
    # Inverse of the distribution function of the density r^-2 between the two radii.
    share = random.uniform(0, 1, _LEAVES)
    radii = 1 / (1 / smallest + share * (1 / largest - 1 / smallest))
    centres = random.uniform(0, 1, (_LEAVES, 2)) * (width, height)
    flatness = random.uniform(0.3, 1, _LEAVES)
    outlines = []
    for radius, centre, flat in zip(radii, centres, flatness, strict=True):
        corners = int(random.integers(3, _LARGEST_CORNER_COUNT + 1))
        # Every other leaf is an ellipse, that is, has many corners at regular angles.
        if random.random() < 0.5:
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        else:
            angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        turn = random.uniform(0, np.pi)
        x, y = radius * np.cos(angles), radius * flat * np.sin(angles)
        turned = (x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn))
        outlines.append(centre + np.stack(turned, axis=1))
    return outlines
