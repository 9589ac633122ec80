"""From an image as a camera or a file delivers it to the network's input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from efficientad_ext._checks import check_size
from efficientad_ext._derivatives import register_gradient
from efficientad_ext._registry import Backend, register
from efficientad_ext.preprocessing import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    WHITE,
    channels_first,
)
from efficientad_ext.reference.resize_normalize import averaging_matrix

_SCALES = {torch.uint8: 1 / 255, torch.uint16: 1 / 65535}


def _implementation(
    backend: Backend,
    image: Tensor,
    height: int,
    width: int,
    mean: Sequence[float],
    deviation: Sequence[float],
    background: Sequence[float],
) -> Tensor:
    output = _fake(image, height, width, mean, deviation, background)
    if output.numel() > 0:
        scale = _SCALES.get(image.dtype, 1.0)
        backend.run(
            "resize_normalize", image.device, image, scale, mean, deviation, background, output
        )
    return output


def _fake(
    image: Tensor,
    height: int,
    width: int,
    mean: Sequence[float],
    deviation: Sequence[float],
    background: Sequence[float],
) -> Tensor:
    result_type = torch.float64 if image.dtype == torch.float64 else torch.float32
    return image.new_empty((image.shape[0], 3, height, width), dtype=result_type)


_raw = register(
    "resize_normalize(Tensor image, SymInt height, SymInt width, float[] mean, float[] deviation, "
    "float[] background) -> Tensor",
    _implementation,
    _fake,
)


def _save(context: Any, arguments: tuple[Any, ...], _result: Tensor) -> None:
    image, *context.size, _, context.deviation, context.background = arguments
    context.save_for_backward(image)


def _backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (image,) = context.saved_tensors
    deviation, background = (
        gradient.new_tensor(values).view(1, 3, 1, 1)
        for values in (context.deviation, context.background)
    )
    vertical = averaging_matrix(image.shape[2], context.size[0]).to(gradient)
    horizontal = averaging_matrix(image.shape[3], context.size[1]).to(gradient)
    colour = vertical.T @ (gradient / deviation) @ horizontal
    if image.shape[1] == 1:
        colour = colour.sum(dim=1, keepdim=True)
    elif image.shape[1] == 4:
        alpha = (colour * (image[:, :3] - background)).sum(dim=1, keepdim=True)
        colour = torch.cat([colour * image[:, 3:], alpha], dim=1)
    return colour.to(image), None, None, None, None, None


_call = register_gradient(_raw, _save, _backward)


def _colour(name: str, values: Sequence[float]) -> tuple[float, ...]:
    colour = tuple(float(value) for value in values)
    if len(colour) != 3:
        raise ValueError(f"{name} is {colour}; expected three numbers: red, green, blue")
    if not all(-math.inf < value < math.inf for value in colour):
        raise ValueError(f"{name} is {colour}; expected finite numbers")
    return colour


def resize_normalize(
    image: Tensor,
    size: tuple[int, int],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    deviation: Sequence[float] = IMAGENET_DEVIATION,
    background: Sequence[float] = WHITE,
) -> Tensor:
    """Antialiased bilinear resize and normalisation of images to the network's input.

    The one preprocessing of training, calibration and detection (EfficientAD, appendix). Nothing is
    rounded on the way: integers are scaled to [0, 1], 16 bit by 65535. One channel is repeated to
    three; four channels are red, green, blue and alpha, composited on ``background`` before the
    resize. The filter is a triangle as wide as the scale, as in Pillow and in torch's
    ``antialias=True``. A floating image can have a gradient.

    Args:
        image: uint8 or uint16, (H, W), (H, W, C) or (N, H, W, C); or a floating type with values in
            [0, 1], (C, H, W) or (N, C, H, W). C is 1, 3 or 4. Any strides.
        size: (height, width) of the result.
        mean: subtracted from the channels, in [0, 1]; ImageNet's by default.
        deviation: what the channels are divided by then, above 0.
        background: red, green and blue in [0, 1] behind transparent pixels; white by default.

    Returns:
        (N, 3, *size), N being 1 for a single image: float64 for a float64 image, else float32.

    Raises:
        TypeError: for another element type.
        ValueError: for another shape, an image without pixels, a size that is not positive, or a
            constant that is not finite or, of ``deviation``, not positive.
    """
    pixels = channels_first(image)
    size = check_size("size", size)
    constants = (
        _colour("mean", mean),
        _colour("deviation", deviation),
        _colour("background", background),
    )
    if min(constants[1]) <= 0:
        raise ValueError(f"deviation is {constants[1]}; expected numbers above 0")
    return _call(pixels, *size, *constants)
