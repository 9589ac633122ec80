"""Pictures of results: coloured maps, overlays, and a table of input, map and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

# From dark blue over magenta to light yellow. Lightness grows evenly from one end to the other, so
# that the order can be read without telling colours apart, and on a gray print.
_ANCHOR_COLOURS = np.array(
    [(0, 0, 60), (58, 20, 120), (130, 35, 130), (200, 60, 105), (245, 115, 80), (252, 190, 110),
     (252, 250, 190)],
    dtype=np.float64,
)  # fmt: skip
_OVERLAY_STRENGTH = 0.6
# Blue and red that people with any kind of colour blindness tell apart.
NORMAL_COLOUR = (0, 90, 181)
ANOMALOUS_COLOUR = (220, 50, 32)


def colour_map(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours for values in [0, 1], clamped: (H, W) to (H, W, 3) uint8."""
    position = np.clip(values, 0, 1) * (len(_ANCHOR_COLOURS) - 1)
    anchors = np.arange(len(_ANCHOR_COLOURS))
    channels = [np.interp(position, anchors, _ANCHOR_COLOURS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def colour_map_css() -> str:
    """The colours of `colour_map` as a CSS gradient from left to right."""
    stops = ", ".join(
        f"rgb({red:.0f} {green:.0f} {blue:.0f})" for red, green, blue in _ANCHOR_COLOURS
    )
    return f"linear-gradient(to right, {stops})"


def display_values(anomaly_map: NDArray[np.floating], threshold: float) -> NDArray[np.floating]:
    """An anomaly map scaled for display: 0 stays 0, the threshold becomes the middle, 0.5."""
    return anomaly_map / (2 * threshold) if threshold > 0 else anomaly_map + 0.5 - threshold


def displayable(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Any image that the detector takes from a file as (H, W, 3) uint8, transparency on white."""
    if image.dtype == np.uint16:
        image = image / np.float32(65535)
    if np.issubdtype(image.dtype, np.floating):
        image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[-1] == 4:
        alpha = image[..., 3:] / np.float32(255)
        image = (image[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)), dtype=np.uint8)


def overlay(
    image: NDArray[Any], anomaly_map: NDArray[np.floating], threshold: float
) -> NDArray[np.uint8]:
    """The image with its anomaly map over it, the more visible the higher the map.

    Args:
        image: (H, W) or (H, W, C), as loaded from a file.
        anomaly_map: (H, W), the combined map at the image's own size.
        threshold: the model's threshold for maps; from there on the map covers most of the image.
    """
    values = np.clip(display_values(anomaly_map, threshold), 0, 1)
    opacity = (_OVERLAY_STRENGTH * np.minimum(2 * values, 1))[..., None]
    mixed = displayable(image) * (1 - opacity) + colour_map(values) * opacity
    return np.asarray(mixed.round(), dtype=np.uint8)


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 image as a PNG file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class ResultRow:
    """One image with its result, for :func:`result_table`."""

    title: str
    image: NDArray[Any]
    map: NDArray[np.floating]
    score: float
    anomalous: bool


def result_table(
    rows: Sequence[ResultRow],
    threshold: float,
    map_threshold: float,
    caption: str,
    side: int = 224,
) -> NDArray[np.uint8]:
    """A picture with one row per image: the input, its map, and the verdict in words.

    Args:
        rows: what to show; at least one.
        threshold: the model's threshold for scores.
        map_threshold: the model's threshold for maps, the middle of the colour scale.
        caption: text above the table.
        side: height of a row in pixels; images are fitted into a square of that side.
    """
    gap = 12
    font = ImageFont.load_default(size=16)
    heading_height = 72
    width = 3 * side + 4 * gap
    canvas = Image.new("RGB", (width, heading_height + len(rows) * (side + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((gap, gap), caption, fill="black", font=font)
    for column, heading in enumerate(("input", "anomaly map", "verdict")):
        draw.text((gap + column * (side + gap), gap + 30), heading, fill="black", font=font)
    for number, row in enumerate(rows):
        top = heading_height + number * (side + gap)
        coloured = colour_map(display_values(row.map, map_threshold))
        for column, picture in enumerate((displayable(row.image), coloured)):
            fitted = Image.fromarray(picture)
            scale = side / max(fitted.size)
            fitted = fitted.resize(
                (max(1, round(fitted.width * scale)), max(1, round(fitted.height * scale)))
            )
            canvas.paste(fitted, (gap + column * (side + gap), top))
        verdict = "anomalous" if row.anomalous else "normal"
        colour = ANOMALOUS_COLOUR if row.anomalous else NORMAL_COLOUR
        left = gap + 2 * (side + gap)
        draw.text((left, top + 8), row.title, fill="black", font=font)
        draw.text((left, top + 40), verdict, fill=colour, font=ImageFont.load_default(size=24))
        draw.text((left, top + 80), f"score {row.score:.3f}", fill="black", font=font)
        draw.text((left, top + 104), f"threshold {threshold:.3f}", fill="black", font=font)
    return np.asarray(canvas, dtype=np.uint8)
