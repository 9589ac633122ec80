"""Reading masks: which pixels of a test image are anomalous."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from efficientad.datasets.layout import LabelledImage, Saturation
from efficientad_ext.images import load_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask: TypeAlias = NDArray[np.bool_]

_LOSSY_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class GroundTruth:
    """What the masks of an image say.

    Attributes:
        mask: (H, W), True where a pixel is anomalous.
        defects: of MVTec LOCO, each annotated defect's (H, W) mask and its saturation area in
            pixels.
    """

    mask: Mask
    defects: tuple[tuple[Mask, int], ...] = ()


def read_ground_truth(
    image: LabelledImage,
    size: tuple[int, int],
    saturations: Mapping[int, Saturation] | None = None,
) -> GroundTruth | None:
    """Reads the masks of an anomalous image.

    A pixel is anomalous where any mask is not black; where a mask is a JPEG file, whose
    compression leaves traces, where it is at least half as bright as can be.

    Args:
        image: the image, with any number of masks.
        size: its height and width.
        saturations: by the value of a mask's pixels.

    Returns:
        The ground truth, or None if no mask marks a pixel.

    Raises:
        OSError, ValueError: if a mask cannot be read, has another size than the image, or, given
            ``saturations``, has other values than 0 and one of those listed.
    """
    masks, defects = [], []
    for path in image.masks:
        values = load_image(path)
        if values.shape[:2] != size:
            height, width = values.shape[:2]
            raise ValueError(
                f"the mask {path} has {width}x{height} pixels, but its image {image.path} has "
                f"{size[1]}x{size[0]}; expected the same"
            )
        mask = _anomalous(values, lossy=path.suffix.lower() in _LOSSY_SUFFIXES)
        if not mask.any():
            continue
        masks.append(mask)
        if saturations is not None:
            defects.append((mask, _saturation(path, values, saturations).area(int(mask.sum()))))
    return GroundTruth(np.any(masks, axis=0), tuple(defects)) if masks else None


def _anomalous(values: NDArray[Any], *, lossy: bool) -> Mask:
    colours = values[..., None] if values.ndim == 2 else values[..., :3]
    lowest = np.iinfo(values.dtype).max // 2 + 1 if lossy else 1
    return np.asarray((colours >= lowest).any(axis=-1))


def _saturation(
    path: Path, values: NDArray[Any], saturations: Mapping[int, Saturation]
) -> Saturation:
    present = [int(value) for value in np.unique(values) if value > 0]
    if len(present) != 1 or present[0] not in saturations:
        raise ValueError(
            f"the mask {path} has the values {', '.join(map(str, present[:5]))} beside 0; expected "
            "one value, and one that defects_config.json lists"
        )
    return saturations[present[0]]
