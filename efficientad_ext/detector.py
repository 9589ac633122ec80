"""The detector: from images to anomaly maps, scores and verdicts (EfficientAD, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext import ops
from efficientad_ext.architecture import (
    FEATURE_CHANNELS,
    BlindBorder,
    blind_border,
    feature_grid,
)
from efficientad_ext.images import Images, iterate_images
from efficientad_ext.inference import (
    autoencoder_input,
    exact_float32,
    forward,
    prepared,
    with_output_normalisation,
)
from efficientad_ext.model_file import Model, load_model, model_layers

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

Alignment: TypeAlias = Literal["pixel_exact", "paper"]

# Zeros around the feature grid: what a padded PDN's larger grid, 64 instead of 56, would add.
_PAPER_PADDING = 4


@dataclass(frozen=True, eq=False)
class Detection:
    """What the detector says about N images.

    Attributes:
        score: (N,) float32, the maximum of each image's combined map; on the calibration's scale,
            where 0 and 0.1 are the 0.9- and the 0.995-quantile of normal images.
        map: (N, 1, H, W) float32, the combined map, on the same scale.
        verdict: (N,) bool, True where the image is anomalous: its score exceeds the threshold.
        threshold: the threshold that the verdict was made with.
        blind_border: strips along the edges of the network's input, in its pixels, that never are
            the centre of a feature; there, a pixel-exact map repeats its outermost values.
    """

    score: Tensor
    map: Tensor
    verdict: Tensor
    threshold: float
    blind_border: BlindBorder


class Detector:
    """A model, ready to detect anomalies on one device.

    The same image gives the same bits on the same device; on the CPU also whatever else is in its
    batch. All computation is in float32.

    Args:
        model: a trained and calibrated model, see `load_model`.
        device: where to compute, such as "cpu" or "cuda".
        batch_size: how many images to hold in the network's input format at once; on CUDA they
            go through the networks together, on the CPU one after the other.
        alignment: "pixel_exact" puts feature (i, j) at pixel (16 + 4 i, 16 + 4 j) of the
            network's input. "paper" pads the combined map with four zeros on each side and
            resizes it to the image edge to edge, for comparison with other implementations
            only: it is off by 1.5 pixels, and no score is below 0.

    Raises:
        ValueError: `batch_size` is not positive, or `alignment` is unknown.
        RuntimeError: there is no such device.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "cpu",
        *,
        batch_size: int = 16,
        alignment: Alignment = "pixel_exact",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        if alignment not in ("pixel_exact", "paper"):
            raise ValueError(f'alignment is {alignment!r}; expected "pixel_exact" or "paper"')
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                f'the device {device} was asked for, but torch finds no CUDA GPU; use "cpu"'
            )
        self._batch_size = batch_size
        # On a CPU a batch gains nothing, and its size would change the last bits of the maps.
        self._images_per_pass = 1 if self._device.type == "cpu" else batch_size
        self._alignment = alignment
        self._input_size = model.input_size
        self._quantiles = model.quantiles
        self._threshold = model.threshold
        self._blind_border = blind_border(*model.input_size)
        self._layers = model_layers(model.size, model.input_size)
        teacher = with_output_normalisation(
            model.teacher, model.teacher_mean, model.teacher_deviation
        )
        self._teacher = prepared(teacher, self._device)
        self._student = prepared(model.student, self._device)
        self._autoencoder = prepared(model.autoencoder, self._device)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        batch_size: int = 16,
        alignment: Alignment = "pixel_exact",
    ) -> Detector:
        """A detector from a model file.

        Args and errors: those of `load_model` and of the constructor.
        """
        return cls(load_model(path), device, batch_size=batch_size, alignment=alignment)

    @property
    def device(self) -> torch.device:
        """Where the detector computes, and where its results are."""
        return self._device

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels that every image is resized to."""
        return self._input_size

    @property
    def threshold(self) -> float:
        """An image whose score is greater is anomalous."""
        return self._threshold

    @property
    def blind_border(self) -> BlindBorder:
        """See `Detection.blind_border`."""
        return self._blind_border

    @torch.no_grad()
    def __call__(self, images: Images, *, map_size: tuple[int, int] | None = None) -> Detection:
        """Detects anomalies.

        Args:
            images: one image, a batch, or an iterable of images of any mixture of sizes, as paths,
                arrays or tensors: uint8 or uint16 of shape (H, W), (H, W, C) or (N, H, W, C), or
                floating in [0, 1] of shape (C, H, W) or (N, C, H, W); C is 1, 3 or 4. Gray is
                repeated to three channels, alpha is composited on white. Paths and the items of an
                iterator are read `batch_size` at a time; the maps of all images are kept.
            map_size: (height, width) of the maps, by default the network's input size. The scores
                do not depend on it.

        Returns:
            The detection, on the detector's device; for no image at all, an empty one.

        Raises:
            FileNotFoundError, TypeError, ValueError: an image is missing, of an unsupported kind,
                damaged, or holds NaN; see `images.iterate_images`. `map_size` is not positive.
        """
        size = self._input_size if map_size is None else map_size
        if min(size) < 1:
            raise ValueError(f"map_size is {tuple(size)}; expected a positive height and width")
        maps = [torch.empty((0, 1, *size), device=self._device)]
        scores = [torch.empty(0, device=self._device)]
        for x in self._inputs(images):
            batch_maps, batch_scores = self._combine(*self.maps(x), size)
            maps.append(batch_maps)
            scores.append(batch_scores)
        score = torch.cat(scores)
        return Detection(
            score=score,
            map=torch.cat(maps),
            # In float64, the verdict is the comparison of the two numbers that a report shows.
            verdict=score.double() > self._threshold,
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
        if x.dim() != 4 or tuple(x.shape[1:]) != (3, *self._input_size):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (N, 3, {self._input_size[0]}, "
                f"{self._input_size[1]}): resize the images with ops.resize_normalize"
            )
        if x.dtype != torch.float32:
            raise ValueError(f"x has element type {x.dtype}; expected torch.float32")
        grid = feature_grid(*self._input_size)
        local_maps = [torch.empty((0, 1, *grid), device=self._device)]
        global_maps = list(local_maps)
        with exact_float32(self._device):
            for start in range(0, len(x), self._images_per_pass):
                part = x[start : start + self._images_per_pass]
                local_map, global_map = self._maps_of_one_pass(part)
                local_maps.append(local_map)
                global_maps.append(global_map)
        return torch.cat(local_maps), torch.cat(global_maps)

    def _maps_of_one_pass(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(self._device).contiguous(memory_format=torch.channels_last)
        teacher = forward(self._layers["teacher"], self._teacher, x)
        student = forward(self._layers["student"], self._student, x)
        autoencoder = forward(self._layers["autoencoder"], self._autoencoder, autoencoder_input(x))
        return (
            ops.squared_difference_map(teacher, student[:, :FEATURE_CHANNELS]),
            ops.squared_difference_map(autoencoder, student[:, FEATURE_CHANNELS:]),
        )

    def _inputs(self, images: Images) -> Iterator[Tensor]:
        single_images = iterate_images(images)
        while chunk := list(islice(single_images, self._batch_size)):
            yield torch.cat(
                [ops.resize_normalize(image.to(self._device), self._input_size) for image in chunk]
            )

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
