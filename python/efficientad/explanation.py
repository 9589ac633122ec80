"""Why an image got its score: its maps and its mask, of one size, ready to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from efficientad.datasets import LabelledImage, read_ground_truth
from efficientad.pictures import displayable
from efficientad_ext import ops
from efficientad_ext.detector import Detector
from efficientad_ext.images import iterate_images, load_image

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Explanation:
    """An image and what is known about its pixels.

    The maps are on the calibration's scale, where 0 and 0.1 are the 0.9- and the 0.995-quantile of
    normal images, or those of `Model.quantile_levels`; the combined map is the mean of the local
    and the global one.

    Attributes:
        image: (H, W, 3) uint8.
        combined_map: (H, W) float32.
        local_map: (H, W) float32, what teacher and student disagree about.
        global_map: (H, W) float32, what autoencoder and student disagree about.
        mask: (H, W) bool, True where the image is anomalous; None for a normal image, and where
            there is no mask that marks a pixel and can be used.
    """

    image: NDArray[np.uint8]
    combined_map: NDArray[np.float32]
    local_map: NDArray[np.float32]
    global_map: NDArray[np.float32]
    mask: NDArray[np.bool_] | None


def explain(
    detector: Detector, image: LabelledImage, longest_side: int | None = None
) -> Explanation:
    """Explains the detector's score of an image.

    Args:
        detector: the model.
        image: its file, and its masks if it has any.
        longest_side: what the image is made smaller to, in pixels, if it is larger. A mask keeps
            whatever it marks, be it thinner than a pixel. None for the image's own size.

    Raises:
        ValueError, OSError: if the file cannot be read as an image.
    """
    pixels = load_image(image.path)
    mask = _mask(image, pixels.shape[:2])
    shown = Image.fromarray(displayable(pixels))
    if longest_side is not None:
        shown.thumbnail((longest_side, longest_side))
    size = (shown.height, shown.width)
    if mask is not None:
        averaged = Image.fromarray(mask).convert("L").resize(shown.size, Image.Resampling.BOX)
        mask = np.asarray(averaged) > 0
    return Explanation(np.asarray(shown), *_maps(detector, pixels, size), mask)


def _maps(
    detector: Detector, pixels: NDArray[Any], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    image = next(iterate_images(pixels)).to(detector.device)
    local_map, global_map = detector.maps(ops.resize_normalize(image, detector.input_size))
    local_a, local_b, global_a, global_b = detector.quantiles
    combined, local_only, global_only = (
        ops.normalize_and_combine(first, second, quantiles, size, input_size=detector.input_size)
        for first, second, quantiles in (
            (local_map, global_map, detector.quantiles),
            (local_map, local_map, (local_a, local_b, local_a, local_b)),
            (global_map, global_map, (global_a, global_b, global_a, global_b)),
        )
    )
    return _array(combined), _array(local_only), _array(global_only)


def _array(maps_and_scores: tuple[Any, Any]) -> NDArray[np.float32]:
    return np.asarray(maps_and_scores[0][0, 0].cpu())


def _mask(image: LabelledImage, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    try:
        truth = read_ground_truth(image, size)
    except (ValueError, OSError):  # an evaluation has reported it
        return None
    return None if truth is None else truth.mask
