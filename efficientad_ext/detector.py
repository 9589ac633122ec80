"""The detector: from images to anomaly maps, scores and verdicts (EfficientAD, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext import ops
from efficientad_ext._checks import check_size, check_whole
from efficientad_ext._instruction_set import IN_USE
from efficientad_ext._registry import check_gpu
from efficientad_ext.architecture import FEATURE_CHANNELS, BlindBorder, blind_border
from efficientad_ext.engine import Engine
from efficientad_ext.images import Images, iterate_images
from efficientad_ext.inference import Networks
from efficientad_ext.model_file import Model, check_model, load_model

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

Alignment: TypeAlias = Literal["pixel_exact", "paper"]
Precision: TypeAlias = Literal["auto", "float32", "tf32", "float16", "bfloat16"]

# Images unlike those of the calibration may reach so many times their largest activation.
_HEADROOM = 8

# Zeros around the feature grid: what a padded PDN's larger grid, 64 instead of 56, would add.
_PAPER_PADDING = 4


@dataclass(frozen=True, eq=False)
class Detection:
    """What the detector says about N images.

    Attributes:
        score: (N,) float64, what the verdict is made of: with PUAD its final score, else the
            picturable one.
        picturable_score: (N,) float32, the maximum of each image's combined map; on the
            calibration's scale, where 0 and 0.1 are the 0.9- and the 0.995-quantile of normal
            images, or those of `Model.quantile_levels`.
        unpicturable_score: (N,) float64, PUAD's second score, a Mahalanobis distance; None where
            the model has no PUAD.
        map: (N, 1, H, W) float32, the combined map, on the calibration's scale.
        verdict: (N,) bool, True where the image is anomalous: its score exceeds the threshold, or
            is NaN, which only a broken model or an overflow in float16 gives.
        threshold: the threshold that the verdict was made with.
        blind_border: strips along the edges of the network's input, in its pixels, that never are
            the centre of a feature; there, a pixel-exact map repeats its outermost values.
    """

    score: Tensor
    picturable_score: Tensor
    unpicturable_score: Tensor | None
    map: Tensor
    verdict: Tensor
    threshold: float
    blind_border: BlindBorder


class Detector:
    """A model, ready to detect anomalies on one device.

    The same image gives the same bits on the same device; on the CPU also whatever else is in its
    batch. Maps and scores are float32 in any precision.

    Args:
        model: a trained and calibrated model, see `load_model`.
        device: where to compute, such as "cpu" or "cuda".
        precision: of weights and feature maps. "auto" is "float16" on CUDA devices of compute
            capability 8.0 or higher and on processors whose AMX multiplies it, or "bfloat16" where
            the model's largest activation leaves too little room below float16's largest number;
            "bfloat16" on other processors with AMX; and "float32" elsewhere. On CUDA, "float16",
            "bfloat16" and "tf32" (float32 multiplied with 10 bits behind the point) run on the
            engine, see `engine.Engine`, and "float32" runs on torch's convolutions, exact and
            slower. The CPU has "float32", "bfloat16" and "float16", all on the engine; float32 is
            the fastest of them but where AMX multiplies the others.
        batch_size: how many images to hold in the network's input format at once; on CUDA they
            go through the networks together, on the CPU one after the other.
        alignment: "pixel_exact" puts feature (i, j) at pixel (16 + 4 i, 16 + 4 j) of the
            network's input. "paper" pads the combined map with four zeros on each side and
            resizes it to the image edge to edge, for comparison with other implementations
            only: it is off by 1.5 pixels, and no score is below 0.

    Raises:
        TypeError: `model` is no Model, or `batch_size` no whole number.
        ValueError: `batch_size` is not positive, `alignment` is unknown, `precision` is unknown or
            not for the device, or a weight is too large for it.
        RuntimeError: there is no such device, or what `engine.Engine` raises.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "cpu",
        *,
        precision: Precision = "auto",
        batch_size: int = 16,
        alignment: Alignment = "pixel_exact",
    ) -> None:
        check_model(model)
        batch_size = check_whole("batch_size", batch_size, 1)
        if alignment not in ("pixel_exact", "paper"):
            raise ValueError(f'alignment is {alignment!r}; expected "pixel_exact" or "paper"')
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                f'the device {device} was asked for, but torch finds no CUDA GPU; use "cpu"'
            )
        self._batch_size = batch_size
        self._alignment = alignment
        self._input_size = model.input_size
        self._quantiles = model.quantiles
        self._threshold = model.threshold
        self._map_threshold = model.map_threshold
        self._blind_border = blind_border(*model.input_size)
        self._networks = _networks(model, torch.device(device), precision, batch_size)
        self._device = self._networks.device
        self._puad = None if model.puad is None else model.puad.to(self._device)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        precision: Precision = "auto",
        batch_size: int = 16,
        alignment: Alignment = "pixel_exact",
    ) -> Detector:
        """A detector from a model file.

        Args and errors: those of `load_model` and of the constructor.
        """
        return cls(
            load_model(path),
            device,
            precision=precision,
            batch_size=batch_size,
            alignment=alignment,
        )

    def __repr__(self) -> str:
        return (
            f"Detector(device='{self._device}', precision={self.precision!r}, "
            f"input_size={self._input_size})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a detector cannot be copied or pickled; load its model file again")

    @property
    def device(self) -> torch.device:
        """Where the detector computes, and where its results are."""
        return self._device

    @property
    def precision(self) -> str:
        """What the networks compute in: the `precision` asked for, or what "auto" came to."""
        return self._networks.precision

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels that every image is resized to."""
        return self._input_size

    @property
    def threshold(self) -> float:
        """An image whose score is greater is anomalous."""
        return self._threshold

    @property
    def map_threshold(self) -> float:
        """Where an anomalous image's map is greater, it is shown as the reason."""
        return self._map_threshold

    @property
    def quantiles(self) -> tuple[float, float, float, float]:
        """What calibrates the maps: (local a, local b, global a, global b), see `model_file`."""
        return self._quantiles

    @property
    def blind_border(self) -> BlindBorder:
        """See `Detection.blind_border`."""
        return self._blind_border

    @torch.no_grad()
    def __call__(self, images: Images, *, map_size: tuple[int, int] | None = None) -> Detection:
        """Detects anomalies.

        Args:
            images: one image, a batch, or an iterable of images of any mixture of sizes, as paths,
                images of Pillow, arrays or tensors: uint8 or uint16 of shape (H, W), (H, W, C) or
                (N, H, W, C), or floating in [0, 1] of shape (C, H, W) or (N, C, H, W); C is 1, 3 or
                4. Gray is repeated to three channels, alpha is composited on white. Paths and the
                items of an iterator are read `batch_size` at a time; the maps of all images are
                kept.
            map_size: (height, width) of the maps, by default the network's input size. The scores
                do not depend on it.

        Returns:
            The detection, on the detector's device; for no image at all, an empty one.

        Raises:
            FileNotFoundError, TypeError, ValueError: an image is missing, of an unsupported kind,
                damaged, or holds NaN; see `images.iterate_images`. `map_size` is not positive.
        """
        size = self._input_size if map_size is None else check_size("map_size", map_size)
        empty = torch.empty((0, FEATURE_CHANNELS), device=self._device)
        parts = [(torch.empty((0, 1, *size), device=self._device), empty[:, 0], empty)]
        parts += [self._detect(x, size) for x in self._inputs(images)]
        maps, picturable, features = map(torch.cat, zip(*parts, strict=True))
        # In float64, the verdict is the comparison of the two numbers that a report shows.
        score, unpicturable = picturable.double(), None
        if self._puad is not None:
            unpicturable = self._puad.unpicturable_score(features)
            score = self._puad.final_score(picturable, unpicturable)
        return Detection(
            score=score,
            picturable_score=picturable,
            unpicturable_score=unpicturable,
            map=maps,
            verdict=~(score <= self._threshold),  # True for NaN: no part passes unseen
            threshold=self._threshold,
            blind_border=self._blind_border,
        )

    @torch.no_grad()
    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The local map (T - S) and the global map (A - S'), before calibration.

        Args:
            x: (N, 3, H, W) float32, images of the input size as `ops.resize_normalize` makes them.

        Returns:
            Two float32 tensors (N, 1, h, w) on the detector's device, where (h, w) is the feature
            grid: the mean over channels of the squared differences.

        Raises:
            ValueError: `x` has another shape or element type.
        """
        x = self._checked(x)
        return (
            self._networks.maps(x) if isinstance(self._networks, Engine) else self._networks(x)[:2]
        )

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """PUAD's feature: the mean over space of what `Model.feature_source` says.

        Args and errors: those of `maps`.

        Returns:
            (N, 384) float32 on the detector's device.
        """
        x = self._checked(x)
        if not isinstance(self._networks, Engine):
            return self._networks.features(x)
        features = self._networks(x).features
        assert features is not None, "the engine is made with features"
        return features

    def _checked(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or tuple(x.shape[1:]) != (3, *self._input_size):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (N, 3, {self._input_size[0]}, "
                f"{self._input_size[1]}): resize the images with ops.resize_normalize"
            )
        if x.dtype != torch.float32:
            raise ValueError(f"x has element type {x.dtype}; expected torch.float32")
        return x.to(self._device)

    def _inputs(self, images: Images) -> Iterator[Tensor]:
        """Batches on the device: bytes as the engine reads them, or normalised images."""
        single_images = iterate_images(images)
        while chunk := list(islice(single_images, self._batch_size)):
            for as_bytes, group in groupby(chunk, self._is_for_engine):
                if as_bytes:
                    yield torch.stack(list(group)).to(self._device)
                else:
                    yield torch.cat(
                        [
                            ops.resize_normalize(image.to(self._device), self._input_size)
                            for image in group
                        ]
                    )

    def _is_for_engine(self, image: Tensor) -> bool:
        return (
            isinstance(self._networks, Engine)
            and self._alignment == "pixel_exact"
            and image.dtype == torch.uint8
            and tuple(image.shape) == (*self._input_size, 3)
        )

    def _detect(self, x: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Map, picturable score and PUAD's feature of each image."""
        if not isinstance(self._networks, Engine):
            local_map, global_map, features = self._networks(x)
            return *self._combine(local_map, global_map, size), features
        output = self._networks(x, size)
        assert output.features is not None, "the engine is made with features"
        if self._alignment == "pixel_exact":
            return output.map, output.score, output.features
        return *self._combine(*self._networks.maps(x), size), output.features

    def _combine(
        self, local_map: Tensor, global_map: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        if self._alignment == "pixel_exact":
            return ops.normalize_and_combine(
                local_map, global_map, self._quantiles, size, input_size=self._input_size
            )
        local_a, local_b, global_a, global_b = self._quantiles
        combined = 0.05 * (
            (local_map - local_a) / (local_b - local_a)
            + (global_map - global_a) / (global_b - global_a)
        )
        padded = functional.pad(combined, (_PAPER_PADDING,) * 4)
        score = ops.upsample_bilinear(padded, self._input_size).amax(dim=(1, 2, 3))
        return ops.upsample_bilinear(padded, size), score


def _networks(
    model: Model, device: torch.device, precision: Precision, batch_size: int
) -> Networks | Engine:
    """What runs the networks of a detector: the one place that decides it."""
    if precision not in get_args(Precision):
        names = ", ".join(f'"{name}"' for name in get_args(Precision))
        raise ValueError(f"precision is {precision!r}; expected one of {names}")
    if precision == "auto":
        precision = _auto_precision(model, device)
    if device.type == "cuda":
        if precision == "float32":
            check_gpu(device)
            return Networks(model, device, torch.float32, batch_size)
        return Engine(model, device, precision=precision, batch_size=batch_size, features=True)
    # On a CPU a batch gains nothing.
    return Engine(model, device, precision=precision, batch_size=1, features=True)


def _auto_precision(
    model: Model, device: torch.device
) -> Literal["float32", "float16", "bfloat16"]:
    """The truest of those that the device multiplies fastest."""
    fastest = _fastest_precisions(device)
    largest = model.largest_activation
    fits = largest is None or _HEADROOM * largest <= torch.finfo(torch.float16).max
    if "float16" in fastest and fits:
        return "float16"
    return "bfloat16" if "bfloat16" in fastest else "float32"


def _fastest_precisions(device: torch.device) -> tuple[str, ...]:
    """What the device multiplies much faster than float32."""
    if device.type == "cuda":
        return ("float16", "bfloat16")
    on_tiles = {"amx_fp16": ("float16", "bfloat16"), "amx_bf16": ("bfloat16",)}
    return on_tiles.get(IN_USE, ())
