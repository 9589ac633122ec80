"""The gallery of a report: which images it shows, and their pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from efficientad.datasets import read_ground_truth
from efficientad.evaluation import ScoredImage
from efficientad.pictures import colour_map, display_values, displayable
from efficientad_ext import ops
from efficientad_ext.detector import Detector
from efficientad_ext.images import iterate_images, load_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE = 176
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Section:
    """A part of a gallery.

    Attributes:
        heading: what the images have in common.
        kind: the same as a CSS class.
        images: sorted by score, highest first.
        left_out: how many there was no room for.
    """

    heading: str
    kind: str
    images: tuple[ScoredImage, ...]
    left_out: int


def choose(scored: Sequence[ScoredImage], threshold: float, room: int) -> list[Section]:
    """False rejects, misses, and right verdicts, each up to ``room``.

    Of too many wrong verdicts, those with scores furthest from the threshold are kept; of right
    ones, those nearest to it.
    """
    parts: dict[str, list[ScoredImage]] = {"false-reject": [], "miss": [], "right": []}
    for one in sorted(scored, key=lambda one: abs(one.score - threshold)):
        if one.verdict == one.image.anomalous:
            parts["right"].append(one)
        else:
            parts["false-reject" if one.verdict else "miss"].insert(0, one)
    headings = ("False rejects", "Misses", "Right verdicts")
    return [
        Section(
            heading,
            kind,
            tuple(sorted(images[:room], key=lambda one: -one.score)),
            max(0, len(images) - room),
        )
        for heading, (kind, images) in zip(headings, parts.items(), strict=True)
    ]


def render(detector: Detector, scored: ScoredImage) -> dict[str, str]:
    """The pictures of an image as data URLs, by caption; the mask only if it can be used.

    The maps are on one colour scale, see `pictures.display_values`: the combined map is the mean of
    the local map (teacher and student) and the global one (autoencoder and student).
    """
    pixels = load_image(scored.image.path)
    shown = Image.fromarray(displayable(pixels))
    shown.thumbnail((_SIDE, _SIDE))
    height, width = shown.height, shown.width
    pictures = {"image": _data_url(np.asarray(shown))}
    for caption, values in _maps(detector, pixels, (height, width)).items():
        coloured = colour_map(display_values(values, detector.map_threshold))
        pictures[caption] = _data_url(coloured)
    mask = _mask(scored, pixels.shape[:2])
    if mask is not None:
        # Averaged, so that what is thinner than a pixel of the small picture stays visible.
        small = Image.fromarray(mask).convert("L").resize((width, height), Image.Resampling.BOX)
        pictures["mask"] = _data_url(np.asarray(small) > 0)
    return pictures


def _maps(
    detector: Detector, pixels: NDArray[Any], size: tuple[int, int]
) -> dict[str, NDArray[np.float32]]:
    image = next(iterate_images(pixels)).to(detector.device)
    local_map, global_map = detector.maps(ops.resize_normalize(image, detector.input_size))
    local_a, local_b, global_a, global_b = detector.quantiles
    found = {}
    for caption, first, second, quantiles in (
        ("map", local_map, global_map, detector.quantiles),
        ("local map", local_map, local_map, (local_a, local_b, local_a, local_b)),
        ("global map", global_map, global_map, (global_a, global_b, global_a, global_b)),
    ):
        calibrated, _ = ops.normalize_and_combine(
            first, second, quantiles, size, input_size=detector.input_size
        )
        found[caption] = calibrated[0, 0].cpu().numpy()
    return found


def _mask(scored: ScoredImage, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    try:
        truth = read_ground_truth(scored.image, size)
    except (ValueError, OSError):  # the evaluation has reported it
        return None
    return None if truth is None else truth.mask


def _data_url(pixels: NDArray[Any]) -> str:
    buffer = BytesIO()
    if pixels.dtype == np.bool_:
        Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
        kind = "png"
    else:
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"
