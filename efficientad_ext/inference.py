"""The forward pass of the networks from their tables and parameters, without torch.nn modules."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext import ops
from efficientad_ext.architecture import (
    AUTOENCODER_INPUT,
    AveragePool,
    Convolution,
    Dropout,
    Layers,
    ReLU,
    Upsample,
)

Parameters: TypeAlias = Mapping[str, Tensor]


def forward(layers: Layers, parameters: Parameters, x: Tensor) -> Tensor:
    """The output of a network in detection, that is without dropout.

    Args:
        layers: the network's table; see `architecture`.
        parameters: its parameters by their key in the `torch.nn.Sequential`.
        x: (N, 3, H, W) normalised input.
    """
    index = 0
    while index < len(layers):
        layer = layers[index]
        if isinstance(layer, Convolution):
            weight, bias = parameters[f"{index}.weight"], parameters[f"{index}.bias"]
            following = layers[index + 1 : index + 3]
            if len(following) == 2 and isinstance(following[1], AveragePool):
                x = ops.conv_relu_pool(
                    x, weight, bias, padding=layer.padding, pool_padding=following[1].padding
                )
                index += 3
                continue
            x = functional.conv2d(x, weight, bias, stride=layer.stride, padding=layer.padding)
        elif isinstance(layer, ReLU):
            x = functional.relu_(x)
        elif isinstance(layer, Upsample):
            x = ops.upsample_bilinear(x, layer.size)
        else:
            assert isinstance(layer, Dropout), "an average pool follows a convolution and its ReLU"
        index += 1
    return x


def autoencoder_input(x: Tensor) -> Tensor:
    """The normalised input (N, 3, H, W), resized with antialiasing to what the autoencoder sees."""
    if tuple(x.shape[2:]) == AUTOENCODER_INPUT:
        return x
    return functional.interpolate(
        x, size=AUTOENCODER_INPUT, mode="bilinear", antialias=True, align_corners=False
    )


def with_output_normalisation(
    parameters: Parameters, mean: Tensor, deviation: Tensor
) -> dict[str, Tensor]:
    """Parameters of the network whose output is (output - mean) / deviation, channel by channel.

    The normalisation is folded into the last convolution, in float64.

    Args:
        parameters: parameters in layer order, ending with the last convolution's weight and bias.
        mean: (C,) mean of each output channel.
        deviation: (C,) standard deviation of each output channel.
    """
    weight_key, bias_key = list(parameters)[-2:]
    weight, bias = parameters[weight_key], parameters[bias_key]
    mean, deviation = mean.double(), deviation.double()
    folded = dict(parameters)
    folded[weight_key] = (weight.double() / deviation.view(-1, 1, 1, 1)).to(weight.dtype)
    folded[bias_key] = ((bias.double() - mean) / deviation).to(bias.dtype)
    return folded


def prepared(parameters: Parameters, device: torch.device) -> dict[str, Tensor]:
    """Copies of the parameters on the device, the weights in channels-last memory format."""
    return {
        key: parameter.to(device, copy=True).contiguous(
            memory_format=torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
        )
        for key, parameter in parameters.items()
    }


def exact_float32(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Convolutions by cuDNN in full float32 (no TF32) and by repeatable algorithms."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
