"""Scoring a labelled test set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from efficientad.datasets import (
    Format,
    LabelledImage,
    LabelledSet,
    find_test_set,
    read_ground_truth,
    report_skipped,
)
from efficientad.figures import Figures, auroc_by_label, compute_figures, title
from efficientad.metrics import PixelScores
from efficientad.output import require_no_input, resolved
from efficientad.prediction import unique_name, write_map
from efficientad.progress import with_progress
from efficientad_ext._checks import check_type
from efficientad_ext.detector import Detector
from efficientad_ext.images import load_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Curve: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredImage:
    """A test image with its scores and verdict, and the file of its map if one was written."""

    image: LabelledImage
    score: float
    verdict: bool
    picturable_score: float | None = None
    unpicturable_score: float | None = None
    map: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a test set.

    Attributes:
        figures: the metrics that the data allow, and why others are missing.
        auroc_by_defect: image AU-ROC of the good images and one kind of defect.
        detected: share of the anomalous images with a score above the model's threshold; None
            without anomalous images.
        false_alarms: share of the good images with a score above it; None without good images.
        scored: every readable image with its score.
        skipped: images that could not be read.
        skipped_masks: anomalous images whose masks cannot be read or have another size; the pixel
            metrics go without them.
        unmarked: anomalous images of which no mask marks a pixel, though masks of others do; the
            pixel metrics go without them, too.
        pro_curve: points of the curve of which ``au_pro`` is the area; None without masks.
    """

    figures: Figures
    auroc_by_defect: dict[str, float]
    detected: float | None
    false_alarms: float | None
    scored: tuple[ScoredImage, ...]
    skipped: tuple[Path, ...] = ()
    skipped_masks: tuple[Path, ...] = ()
    unmarked: tuple[Path, ...] = ()
    pro_curve: Curve | None = None

    def summary(self) -> dict[str, Any]:
        """The figures as JSON values, with one entry per image."""
        return {
            **self.figures.values,
            "image_auroc_by_defect": self.auroc_by_defect,
            "detected": self.detected,
            "false_alarms": self.false_alarms,
            "unavailable": self.figures.unavailable,
            "images": [_record(scored) for scored in self.scored],
            "skipped": [str(path) for path in self.skipped],
            "skipped_masks": [str(path) for path in self.skipped_masks],
            "unmarked": [str(path) for path in self.unmarked],
        }

    def lines(self, threshold: float) -> list[str]:
        """The figures in words, one to a line."""
        shares = []
        if self.detected is not None:
            shares.append(f"{self.detected:.1%} of the anomalous images detected")
        if self.false_alarms is not None:
            shares.append(f"{self.false_alarms:.1%} of the good ones reported")
        return [
            *(f"{kind}: image AU-ROC {value:.4f}" for kind, value in self.auroc_by_defect.items()),
            *(f"{title(name)}: {value:.4f}" for name, value in self.figures.values.items()),
            *(f"{title(name)}: {why}" for name, why in self.figures.unavailable.items()),
            f"at threshold {threshold:.4f}: {', '.join(shares)}",
        ]


def evaluate(
    detector: Detector,
    data: Path | str,
    *,
    layout: Format | None = None,
    maps: Path | str | None = None,
) -> Evaluation:
    """Scores the test images of a data folder.

    Unreadable images are reported in the log, left out, and listed in the result; so are masks that
    cannot be used.

    Args:
        detector: the model.
        data: the folder of one scenario; see `datasets.find_test_set` for the layouts.
        layout: the folder's layout; None to recognise it.
        maps: where to write the maps, as 32-bit float TIFF of the images' sizes, in the layout
            that the official evaluation scripts of MVTec AD and MVTec LOCO read:
            ``<maps>/<scenario>/test/<kind>/<name>.tiff``. None to write none.

    Raises:
        TypeError: if the detector is none.
        FileNotFoundError: if the folder does not exist.
        ValueError: if there is no such layout, there are no readable test images, or the model
            gives NaN.
        OSError: if a map cannot be written.
    """
    words = "a Detector, which Detector.load reads from a file"
    check_type("detector", detector, Callable, words)  # type: ignore[arg-type]
    test_set = find_test_set(data, layout)
    run = _Run(test_set, None if maps is None else Path(maps))
    for image in with_progress("evaluation", "image", test_set.images):
        try:
            pixels = load_image(image.path)
        except (ValueError, OSError) as error:
            report_skipped(image.path, error)
            run.skipped.append(image.path)
        else:
            run.add(detector, image, pixels)
    if not run.scored:
        raise ValueError(f"none of the test images in {data} can be read; see above for why")
    if run.unmarked:
        logger.warning(
            "no mask marks a pixel of %d anomalous images, such as %s; the pixel metrics go "
            "without them",
            len(run.unmarked),
            run.unmarked[0],
        )
    return replace(
        summarize(run.scored, test_set, run.pixels),
        skipped=tuple(run.skipped),
        skipped_masks=tuple(run.skipped_masks),
        unmarked=tuple(run.unmarked),
    )


def summarize(
    scored: Sequence[ScoredImage],
    test_set: LabelledSet | None = None,
    pixels: PixelScores | None = None,
) -> Evaluation:
    """The figures of a set of scored images, of their pixels if those are given."""
    scores = [one.score for one in scored]
    labels = [one.image.label for one in scored]
    figures = compute_figures(scores, labels, pixels, test_set)
    return Evaluation(
        figures=figures,
        auroc_by_defect=auroc_by_label(scores, labels),
        detected=_share_of_alarms([one for one in scored if one.image.anomalous]),
        false_alarms=_share_of_alarms([one for one in scored if not one.image.anomalous]),
        scored=tuple(scored),
        pro_curve=pixels.pro_curve() if pixels and "au_pro" in figures.values else None,
    )


class _Run:
    """What an evaluation gathers image by image."""

    def __init__(self, test_set: LabelledSet, maps: Path | None) -> None:
        self.scored: list[ScoredImage] = []
        self.skipped: list[Path] = []
        self.skipped_masks: list[Path] = []
        self.unmarked: list[Path] = []
        self.pixels = PixelScores() if test_set.has_masks else None
        self._test_set = test_set
        self._maps = maps
        self._inputs = resolved(
            file for image in test_set.images for file in (image.path, *image.masks)
        )
        self._names: set[str] = set()

    def add(self, detector: Detector, image: LabelledImage, pixels: NDArray[Any]) -> None:
        height, width = pixels.shape[:2]
        detection = detector(pixels, map_size=(height, width))
        score, anomaly_map = float(detection.score[0]), detection.map[0, 0].cpu().numpy()
        if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
            raise ValueError(
                f"the model gives NaN or infinite scores for {image.path}, so that it cannot be "
                "evaluated; train it anew"
            )
        file = None
        if self._maps is not None:
            place = Path(self._test_set.category, "test", image.label, image.path.stem)
            file = self._maps / f"{unique_name(place, self._names)}.tiff"
            require_no_input(file, self._inputs)
            write_map(anomaly_map, file)
        unpicturable = detection.unpicturable_score
        self.scored.append(
            ScoredImage(
                image,
                score,
                bool(detection.verdict[0]),
                float(detection.picturable_score[0]),
                None if unpicturable is None else float(unpicturable[0]),
                file,
            )
        )
        if self.pixels is not None:
            self._add_pixels(self.pixels, image, anomaly_map)

    def _add_pixels(
        self, pixels: PixelScores, image: LabelledImage, anomaly_map: NDArray[np.float32]
    ) -> None:
        # Only the figures of MVTec LOCO are of parts of the images; groups cost time.
        group = image.label if self._test_set.format == "mvtec_loco" else ""
        if not image.anomalous:
            pixels.add(anomaly_map, group=group)
            return
        height, width = anomaly_map.shape
        try:
            truth = read_ground_truth(image, (height, width), self._test_set.saturations)
        except (ValueError, OSError) as error:
            logger.warning("the pixel metrics go without an image: %s", error)
            self.skipped_masks.append(image.path)
            return
        if truth is None:
            self.unmarked.append(image.path)
        else:
            pixels.add(anomaly_map, truth.mask, truth.defects, group)


def _record(scored: ScoredImage) -> dict[str, Any]:
    record: dict[str, Any] = {
        "path": str(scored.image.path),
        "label": scored.image.label,
        "score": scored.score,
        "picturable_score": scored.picturable_score,
        "unpicturable_score": scored.unpicturable_score,
        "verdict": "anomalous" if scored.verdict else "normal",
    }
    if scored.map is not None:
        record["map"] = str(scored.map)
    return record


def _share_of_alarms(images: Sequence[ScoredImage]) -> float | None:
    return sum(one.verdict for one in images) / len(images) if images else None
