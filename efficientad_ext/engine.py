"""The engine: from images to map and score by fused kernels alone.

A model's weights are fused and packed once. For each batch size and kind of image that it meets,
the engine keeps a plan: a short list of fused steps over one workspace (see csrc/engine/plan.h).
"""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple, NoReturn, TypeAlias

import torch
from torch import Tensor

from efficientad_ext import _C, _registry, ops
from efficientad_ext._checks import check_size, check_type, check_whole
from efficientad_ext._execution import checked_device, execution_on
from efficientad_ext._geometry import resampling_axes
from efficientad_ext.architecture import FEATURE_CHANNELS
from efficientad_ext.model_file import Model, check_model
from efficientad_ext.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN

EnginePrecision: TypeAlias = Literal["float64", "float32", "tf32", "float16", "bfloat16"]

_WEIGHT_TYPES = {
    "float64": "float64",
    "float32": "float32",
    "tf32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}

_IMAGE_ALIGNMENT = 16  # bytes, of the vectors in which kernels read


class EngineOutput(NamedTuple):
    """What the engine says about N images.

    Attributes:
        map: (N, 1, H, W), the combined map on the calibration's scale.
        score: (N,), the maximum of each combined map on the feature grid.
        features: (N, 384), the mean over space of what `Model.feature_source` says (PUAD,
            section 3), or None where it was not asked for.

    All are float32, in precision "float64" float64.
    """

    map: Tensor
    score: Tensor
    features: Tensor | None


class Engine:
    """A model's networks on one device.

    Safe to call from several threads and on several CUDA streams; calls take turns. On the CPU it
    may also be used in a forked process, and its kernels allocate nothing once a thread has called
    it with a batch size and a number of threads. On CUDA a call neither synchronises nor allocates
    more than its results, but for the first ones with a batch size, in which kernels are loaded and
    a CUDA graph is captured; before torch 2.13, other threads must not draw random numbers on the
    GPU meanwhile. After those, calls may also be captured into somebody else's graph, which then
    needs the engine to stay alive.

    Args:
        model: a trained and calibrated model.
        device: the CPU, or a CUDA device of compute capability 8.0 or higher.
        precision: of weights and feature maps; sums and maps are float32, in "float64" float64.
            "tf32" is for CUDA alone, which multiplies float32 rounded to 10 bits behind the point;
            "float64" and "float32" are for the CPU alone, where their convolutions are Winograd's,
            with a quarter of the multiplications. The CPU multiplies "bfloat16" and "float16" as
            such where it has instructions for them, and widened to float32 elsewhere.
        batch_size: how many images go through the networks together. More of them are split; the
            workspace is for so many.
        features: whether to compute PUAD's feature.

    Raises:
        TypeError: `model` is no Model, or `batch_size` no whole number.
        ValueError: `batch_size` is not positive; `precision` is unknown or not for the device; or
            a weight is too large for it.
        RuntimeError: the package was built without kernels for the device, the device is too old,
            or it has too little free memory.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "cpu",
        *,
        precision: EnginePrecision,
        batch_size: int = 16,
        features: bool = False,
    ) -> None:
        check_model(model)
        batch_size = check_whole("batch_size", batch_size, 1)
        _check_precision(precision, torch.device(device))
        self._backend = _registry.backend_of(torch.device(device))
        self._device = checked_device(device)
        self._precision = precision
        self._batch_size = batch_size
        self._features = features
        self._input_size = model.input_size
        self._quantiles = model.quantiles
        self._sum_type = torch.float64 if precision == "float64" else torch.float32
        self._layout, packed = self._backend.kernels.pack_weights(
            _parameters(model.teacher),
            _parameters(model.student),
            _parameters(model.autoencoder),
            model.teacher_mean.detach().cpu().contiguous(),
            model.teacher_deviation.detach().cpu().contiguous(),
            IMAGENET_MEAN,
            IMAGENET_DEVIATION,
            model.feature_source,
            _WEIGHT_TYPES[precision],
            precision == "tf32",
        )
        self._plans: dict[tuple[int, torch.dtype], _C.Plan] = {}
        # Plans for fewer images or for bytes work in no more memory than this one.
        workspace_bytes = self._plan(batch_size, self._sum_type).workspace_bytes
        try:
            self._execution = execution_on(self._device, len(packed), workspace_bytes)
        except RuntimeError as error:
            raise RuntimeError(
                f"the engine needs {(workspace_bytes + len(packed)) // 2**20 + 1} MB on "
                f"{self._device} for batch_size {batch_size}, which are not free; choose a smaller "
                "batch_size, or free memory"
            ) from error
        self._execution.weights.copy_(torch.frombuffer(packed, dtype=torch.uint8))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine cannot be copied or pickled; make another one of its model")

    def __repr__(self) -> str:
        return (
            f"Engine(device='{self._device}', precision={self._precision!r}, "
            f"input_size={self._input_size})"
        )

    @property
    def device(self) -> torch.device:
        """Where images are expected and results are."""
        return self._device

    @property
    def precision(self) -> EnginePrecision:
        """What weights and feature maps are in."""
        return self._precision

    @torch.no_grad()
    def __call__(self, image: Tensor, map_size: tuple[int, int] | None = None) -> EngineOutput:
        """Map and score of each image.

        Args:
            image: on the engine's device and of the model's input size, either (N, H, W, 3) uint8
                in the order red, green, blue, or (N, 3, H, W) float32 as `ops.resize_normalize`
                makes it (float64 in precision "float64"). Any strides.
            map_size: (height, width) of the map, by default the model's input size.

        Raises:
            TypeError: `image` is not a tensor, or of another element type.
            ValueError: `image` has another shape or is on another device, or `map_size` is not
                positive.
        """
        image = self._checked(image)
        size = self._input_size if map_size is None else check_size("map_size", map_size)
        outputs = [self._detect(part, size) for part in image.split(self._batch_size)]
        if len(outputs) == 1:
            return outputs[0]
        maps, scores, features = zip(*outputs, strict=True)
        return EngineOutput(
            torch.cat(maps), torch.cat(scores), torch.cat(features) if self._features else None
        )

    @torch.no_grad()
    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The local map (T - S) and the global map (A - S'), before calibration.

        Args and errors: those of a call.

        Returns:
            Two tensors (N, 1, h, w) of the sums' type, where (h, w) is the feature grid: the mean
            over channels of the squared differences.
        """
        image = self._checked(image)
        parts = [self._maps(part) for part in image.split(self._batch_size)]
        local_maps, global_maps = zip(*parts, strict=True)
        return torch.cat(local_maps), torch.cat(global_maps)

    def _detect(self, image: Tensor, size: tuple[int, int]) -> EngineOutput:
        count = len(image)
        combined = self._empty(count, 1, *size)
        score = self._empty(count)
        features = self._empty(count, FEATURE_CHANNELS) if self._features else None
        if count == 0:
            return EngineOutput(combined, score, features)
        plan = self._plan(count, image.dtype)
        rows, columns = resampling_axes(plan.grid, size, "pixel_exact", self._input_size)
        with self._execution.workspace() as workspace:
            self._run(plan, image, workspace)
            plan.combine(
                self._backend.context(self._device),
                workspace,
                self._quantiles[:2],
                self._quantiles[2:],
                rows,
                columns,
                combined,
                score,
            )
            if features is not None:
                features.copy_(self._array(workspace, plan.features, tuple(features.shape)))
        return EngineOutput(combined, score, features)

    def _maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        count = len(image)
        plan = self._plan(max(count, 1), image.dtype)
        if count == 0:
            return self._empty(0, 1, *plan.grid), self._empty(0, 1, *plan.grid)
        shape = (plan.planes, count, 1, *plan.grid)
        with self._execution.workspace() as workspace:
            self._run(plan, image, workspace)
            local_map, global_map = (
                # One after the other, so that the sum does not depend on the batch.
                functools.reduce(torch.add, self._array(workspace, offset, shape))
                for offset in (plan.local_planes, plan.global_planes)
            )
        return local_map, global_map

    def _run(self, plan: _C.Plan, image: Tensor, workspace: Tensor) -> None:
        def launch(phase: str, image: Tensor | None = None) -> None:
            context = self._backend.context(self._device)
            plan.run(context, phase, self._execution.weights, workspace, image)

        launch("image", _aligned(image))
        self._execution.run_networks(plan, launch)

    def _plan(self, count: int, image_type: torch.dtype) -> _C.Plan:
        # Two threads may make the same plan; either will do.
        key = (count, image_type)
        if key not in self._plans:
            name = str(image_type).removeprefix("torch.")
            self._plans[key] = self._backend.kernels.plan(
                self._layout, count, *self._input_size, name, self._features
            )
        return self._plans[key]

    def _array(self, workspace: Tensor, offset: int, shape: tuple[int, ...]) -> Tensor:
        """The array of the sums' type that begins at an offset of the workspace."""
        count = math.prod(shape) * self._sum_type.itemsize
        return workspace[offset : offset + count].view(self._sum_type).view(shape)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self._sum_type, device=self._device)

    def _checked(self, image: Tensor) -> Tensor:
        """The image as kernels read it, copied only where it has to be."""
        check_type("image", image, Tensor, "a torch.Tensor")
        height, width = self._input_size
        if image.dtype == torch.uint8:
            expected: tuple[int, int, int] = (height, width, 3)
        elif image.dtype == self._sum_type:
            expected = (3, height, width)
        else:
            raise TypeError(
                f"image is {image.dtype}; expected torch.uint8, or {self._sum_type} as "
                "ops.resize_normalize makes it"
            )
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"image of {image.dtype} has shape {tuple(image.shape)}; expected "
                f"(N, {', '.join(map(str, expected))}), since the model is for {height}x{width} "
                "pixels: resize it with ops.resize_normalize"
            )
        if image.device != self._device:
            raise ValueError(
                f"image is on {image.device} and the engine on {self._device}; expected the same "
                "device"
            )
        if image.dtype == torch.uint8 and self._sum_type == torch.float64:
            # What resizes bytes for the autoencoder is in float32.
            planes = image.movedim(-1, 1).double() / 255
            return ops.resize_normalize(planes, self._input_size)
        return image.detach().resolve_neg()


def _aligned(image: Tensor) -> Tensor:
    image = image.contiguous()
    return image if image.data_ptr() % _IMAGE_ALIGNMENT == 0 else image.clone()


def _parameters(network: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(weight, bias) of each convolution, in order."""
    tensors = [tensor.detach().cpu().contiguous() for tensor in network.values()]
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _check_precision(precision: str, device: torch.device) -> None:
    if precision not in _WEIGHT_TYPES:
        raise ValueError(
            f"precision is {precision!r}; expected one of {', '.join(map(repr, _WEIGHT_TYPES))}"
        )
    if device.type == "cuda" and precision in ("float64", "float32"):
        raise ValueError(
            f'the engine has no precision "{precision}" on CUDA; choose "tf32", "float16" or '
            '"bfloat16"'
        )
    if device.type == "cpu" and precision == "tf32":
        raise ValueError(
            f'precision "tf32" is for CUDA devices; on {device}, choose "float32", "float16" or '
            '"bfloat16"'
        )
