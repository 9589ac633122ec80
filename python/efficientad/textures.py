"""Synthetic pictures of woven cloth, flawless or with a planted defect, for the demonstration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from efficientad.pictures import png_bytes
from efficientad.randomness import Purpose, generator
from efficientad_ext.model_file import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels: TypeAlias = NDArray[np.float64]
    Mask: TypeAlias = NDArray[np.bool_]

SIDE = 160
_THREAD_PITCH = 10.0
_COLOUR = np.array([0.62, 0.52, 0.40])
# Defects keep this distance from the image's edges, in pixels.
_MARGIN = 48


def cloth(random: np.random.Generator) -> Pixels:
    """Flawless cloth: crossing threads whose phase, brightness and grain vary from piece to piece.

    Returns:
        (160, 160, 3) in [0, 1].
    """
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    phase_rows, phase_columns = random.uniform(0, _THREAD_PITCH, 2)
    warp = np.cos(2 * np.pi * (columns + phase_columns) / _THREAD_PITCH)
    weft = np.cos(2 * np.pi * (rows + phase_rows) / _THREAD_PITCH)
    weave = 0.16 * warp + 0.16 * weft + 0.08 * warp * weft
    grain = random.normal(0, 0.02, (SIDE, SIDE))
    brightness = random.uniform(0.96, 1.04)
    pixels = _COLOUR * brightness * (1 + weave + grain)[..., None]
    return np.asarray(pixels.clip(0, 1), dtype=np.float64)


def plant_hole(pixels: Pixels, random: np.random.Generator) -> tuple[Pixels, Mask]:
    """A dark round hole of 4 to 6 pixels radius: (image, mask of the changed pixels)."""
    distance = _distance_to(_place(random))
    opacity = 0.7 * np.clip(random.uniform(4, 6) - distance, 0, 1)
    return _blend(pixels, np.array([0.15, 0.12, 0.10]), opacity)


def plant_stain(pixels: Pixels, random: np.random.Generator) -> tuple[Pixels, Mask]:
    """A bluish stain with a soft edge, through which the weave can be seen: (image, mask)."""
    distance = _distance_to(_place(random))
    opacity = 0.3 * np.clip((random.uniform(10, 14) - distance) / 4, 0, 1)
    return _blend(pixels, np.array([0.35, 0.45, 0.70]), opacity)


def plant_scratch(pixels: Pixels, random: np.random.Generator) -> tuple[Pixels, Mask]:
    """A faint straight scratch, 40 pixels long and 3 wide, in any direction: (image, mask)."""
    centre = _place(random)
    angle = random.uniform(0, np.pi)
    rows, columns = np.mgrid[:SIDE, :SIDE] - np.reshape(centre, (2, 1, 1))
    along = np.abs(rows * np.sin(angle) + columns * np.cos(angle))
    across = np.abs(rows * np.cos(angle) - columns * np.sin(angle))
    opacity = 0.5 * np.clip(2 - across, 0, 1) * np.clip(20.5 - along, 0, 1)
    return _blend(pixels, np.array([0.95, 0.93, 0.88]), opacity)


DEFECTS: dict[str, Callable[[Pixels, np.random.Generator], tuple[Pixels, Mask]]] = {
    "hole": plant_hole,
    "stain": plant_stain,
    "scratch": plant_scratch,
}


def make_dataset(
    root: Path, train: int, validation: int, test_good: int, test_each_defect: int, seed: int
) -> None:
    """Writes a data set in the layout of MVTec AD, with masks; the numbers are counts of images."""
    number = 0

    def next_generator() -> np.random.Generator:
        nonlocal number
        number += 1
        return generator(seed, Purpose.TEXTURES, number)

    good = {"train/good": train, "validation/good": validation, "test/good": test_good}
    for folder, count in good.items():
        for index in range(count):
            _write(root / folder / f"{index:03}.png", cloth(next_generator()))
    for defect, plant in DEFECTS.items():
        for index in range(test_each_defect):
            random = next_generator()
            pixels, mask = plant(cloth(random), random)
            _write(root / "test" / defect / f"{index:03}.png", pixels)
            white = np.repeat(mask[..., None], 3, axis=-1).astype(np.float64)
            _write(root / "ground_truth" / defect / f"{index:03}_mask.png", white)


def _place(random: np.random.Generator) -> Pixels:
    return random.uniform(_MARGIN, SIDE - _MARGIN, 2)


def _distance_to(centre: Pixels) -> Pixels:
    rows, columns = np.mgrid[:SIDE, :SIDE] - np.reshape(centre, (2, 1, 1))
    return np.asarray(np.hypot(rows, columns), dtype=np.float64)


def _blend(pixels: Pixels, colour: Pixels, opacity: Pixels) -> tuple[Pixels, Mask]:
    weight = opacity[..., None]
    return pixels * (1 - weight) + colour * weight, opacity > 0


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, png_bytes((pixels * 255).round().astype(np.uint8)))
