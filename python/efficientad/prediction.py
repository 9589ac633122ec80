"""Detection on files: where the images come from and where their pictures go."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from efficientad.pictures import overlay, png_bytes
from efficientad_ext.detector import Detector
from efficientad_ext.images import find_images, load_image
from efficientad_ext.model_file import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Source:
    """An image file, and the name, without suffix, that its output files get below their folder.

    Names are unique within a run, also on file systems that ignore case.
    """

    path: Path
    name: Path


@dataclass(frozen=True)
class Prediction:
    """The result for one image.

    Attributes:
        path: the image file.
        score: the image score.
        picturable_score: the maximum of the map.
        unpicturable_score: PUAD's second score, None where the model has no PUAD.
        anomalous: the verdict.
        seconds: from reading the file to the verdict, pictures not included.
        map: (H, W) float32, the combined map at the image's own size.
        image: the image as read from the file.
    """

    path: Path
    score: float
    picturable_score: float
    unpicturable_score: float | None
    anomalous: bool
    seconds: float
    map: NDArray[np.float32]
    image: NDArray[Any]

    def record(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "path": str(self.path),
            "score": self.score,
            "picturable_score": self.picturable_score,
            "unpicturable_score": self.unpicturable_score,
            "verdict": "anomalous" if self.anomalous else "normal",
            "seconds": round(self.seconds, 6),
        }


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """The images among files and folders, with names for their output files.

    An image from a folder keeps its place below the folder. Where two images would get the same
    name, the later one gets a number.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a folder holds no image.
    """
    sources: list[Source] = []
    taken: set[str] = set()
    for path in paths:
        if path.is_dir():
            images = [(image, image.relative_to(path)) for image in find_images(path)]
            if not images:
                raise ValueError(f"{path} holds no image")
        elif path.exists():
            images = [(path, Path(path.name))]
        else:
            raise FileNotFoundError(
                f"{path} does not exist; expected an image or a folder of images"
            )
        sources += [
            Source(image, unique_name(name.with_suffix(""), taken)) for image, name in images
        ]
    return sources


def predict(detector: Detector, path: Path) -> Prediction:
    """Detects anomalies in one image file.

    Raises:
        ValueError, OSError: if the file cannot be read as an image.
        RuntimeError: if the model gives NaN or infinity, of which no verdict can be made.
    """
    start = time.perf_counter()
    image = load_image(path)
    height, width = image.shape[:2]
    detection = detector(image, map_size=(height, width))
    unpicturable = detection.unpicturable_score
    score, anomalous = float(detection.score[0]), bool(detection.verdict[0])
    if not math.isfinite(score):
        raise RuntimeError(
            f"the model gives a NaN or infinite score for {path}, of which no verdict can be made; "
            "train it anew"
        )
    seconds = time.perf_counter() - start
    return Prediction(
        path=path,
        score=score,
        picturable_score=float(detection.picturable_score[0]),
        unpicturable_score=None if unpicturable is None else float(unpicturable[0]),
        anomalous=anomalous,
        seconds=seconds,
        map=detection.map[0, 0].cpu().numpy(),
        image=image,
    )


def write_map(anomaly_map: NDArray[np.float32], file: Path) -> None:
    """Writes an (H, W) map as a TIFF of 32-bit floats."""
    buffer = BytesIO()
    Image.fromarray(anomaly_map).save(buffer, format="TIFF")
    _write(file, buffer.getvalue())


def write_overlay(prediction: Prediction, threshold: float, file: Path) -> None:
    """Writes the image with its map over it as a PNG."""
    _write(file, png_bytes(overlay(prediction.image, prediction.map, threshold)))


def unique_name(name: Path, taken: set[str]) -> Path:
    """The name, with a number if it is taken already, whatever its case; it is taken then."""
    candidate, number = name, 1
    while candidate.as_posix().casefold() in taken:
        number += 1
        candidate = name.with_name(f"{name.name}-{number}")
    taken.add(candidate.as_posix().casefold())
    return candidate


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, data)
