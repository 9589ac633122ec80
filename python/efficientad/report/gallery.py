"""The gallery of a report: which images it shows, and their pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from efficientad.evaluation import ScoredImage
from efficientad.explanation import explain
from efficientad.pictures import colour_map, display_values
from efficientad_ext.detector import Detector

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

    The maps are on one colour scale, see `pictures.display_values`.
    """
    explanation = explain(detector, scored.image, _SIDE)
    pictures = {"image": _data_url(explanation.image)}
    for caption, values in (
        ("map", explanation.combined_map),
        ("local map", explanation.local_map),
        ("global map", explanation.global_map),
    ):
        coloured = colour_map(display_values(values, detector.map_threshold))
        pictures[caption] = _data_url(coloured)
    if explanation.mask is not None:
        pictures["mask"] = _data_url(explanation.mask)
    return pictures


def _data_url(pixels: NDArray[Any]) -> str:
    buffer = BytesIO()
    if pixels.dtype == np.bool_:
        Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
        kind = "png"
    else:
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"
