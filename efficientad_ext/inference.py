"""The networks by torch's convolutions, from their tables and parameters, without torch.nn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext import ops
from efficientad_ext.architecture import (
    AUTOENCODER_INPUT,
    FEATURE_CHANNELS,
    AveragePool,
    Convolution,
    Dropout,
    Layers,
    ReLU,
    Upsample,
    feature_grid,
)
from efficientad_ext.model_file import Model, model_layers

Parameters: TypeAlias = Mapping[str, Tensor]


def forward(layers: Layers, parameters: Parameters, x: Tensor) -> Tensor:
    """The output of a network in detection, that is without dropout.

    Args:
        layers: the network's table; see `architecture`.
        parameters: its parameters by their key in the `torch.nn.Sequential`.
        x: (N, 3, H, W) normalised input.
    """
    for output in layer_outputs(layers, parameters, x):
        x = output
    return x


def layer_outputs(layers: Layers, parameters: Parameters, x: Tensor) -> Iterator[Tensor]:
    """What each layer gives, one after the other; the next one may overwrite it.

    A convolution, its ReLU and the average pool behind it are one layer here. Args as in `forward`.
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
                index += 2
            else:
                x = functional.conv2d(x, weight, bias, stride=layer.stride, padding=layer.padding)
        elif isinstance(layer, ReLU):
            x = functional.relu_(x)
        elif isinstance(layer, Upsample):
            x = ops.upsample_bilinear(x, layer.size)
        else:
            assert isinstance(layer, Dropout), "an average pool follows a convolution and its ReLU"
        yield x
        index += 1


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


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Convolutions in full float32, whatever ``torch.autocast`` or TF32 a caller has switched on.

    On a GPU they are cuDNN's, by repeatable algorithms.
    """
    with contextlib.ExitStack() as contexts:
        contexts.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            flags = torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            )
            contexts.enter_context(flags)
        yield


class Networks:
    """A model's networks on one device, run by torch.

    Args:
        model: a trained model.
        device: where to compute.
        dtype: float32 or bfloat16, of weights and feature maps. The maps are float32: differences
            are formed of feature maps widened to it.
        images_per_pass: how many images go through the networks together.
    """

    def __init__(
        self, model: Model, device: torch.device, dtype: torch.dtype, images_per_pass: int
    ) -> None:
        self._device = device
        self._dtype = dtype
        self._images_per_pass = images_per_pass
        self._grid = feature_grid(*model.input_size)
        self._feature_source = model.feature_source
        self._layers = model_layers(model.size, model.input_size)
        teacher = with_output_normalisation(
            model.teacher, model.teacher_mean, model.teacher_deviation
        )
        self._parameters = {
            "teacher": self._prepared(teacher),
            "student": self._prepared(model.student),
            "autoencoder": self._prepared(model.autoencoder),
        }

    @property
    def device(self) -> torch.device:
        """Where the networks are and their maps will be."""
        return self._device

    @property
    def precision(self) -> str:
        """The element type of weights and feature maps."""
        return str(self._dtype).removeprefix("torch.")

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The local map (T - S), the global map (A - S'), and PUAD's feature.

        Args:
            x: (N, 3, H, W) float32 normalised images of the model's input size.

        Returns:
            Two float32 tensors (N, 1, h, w), where (h, w) is the feature grid, and one (N, 384),
            the mean over space of what `Model.feature_source` says.
        """
        no_map = torch.empty((0, 1, *self._grid), device=self._device)
        parts = [(no_map, no_map, torch.empty((0, FEATURE_CHANNELS), device=self._device))]
        with exact_float32(self._device):
            if len(x):
                parts += map(self._one_pass, x.split(self._images_per_pass))
        local_map, global_map, features = map(torch.cat, zip(*parts, strict=True))
        return local_map, global_map, features

    def features(self, x: Tensor) -> Tensor:
        """PUAD's feature alone, in a third (S) or half (M) of the time of a call on a CPU.

        The mean over space of a convolution's output is its weights applied to the means of the
        windows that its taps see, so that the last layer needs no feature map.

        Args:
            x: as in a call.

        Returns:
            (N, 384) float32, the mean over space of what `Model.feature_source` says.
        """
        parts = [torch.empty((0, FEATURE_CHANNELS), device=self._device)]
        with exact_float32(self._device):
            if len(x):
                parts += map(self._pooled_features, x.split(self._images_per_pass))
        return torch.cat(parts)

    def largest_activation(self, x: Tensor) -> float:
        """The largest absolute value between the layers of all networks.

        Args:
            x: as in a call, at least one image.
        """
        x = x.to(self._device).contiguous(memory_format=torch.channels_last)
        largest = 0.0
        with exact_float32(self._device):
            for network, layers in self._layers.items():
                image = autoencoder_input(x) if network == "autoencoder" else x
                outputs = layer_outputs(layers, self._parameters[network], image.to(self._dtype))
                magnitudes = [float(output.abs().amax()) for output in outputs]
                largest = max(largest, *magnitudes[:-1])
        return largest

    def _pooled_features(self, x: Tensor) -> Tensor:
        layers = self._layers[self._feature_source]
        parameters = self._parameters[self._feature_source]
        x = x.to(self._device).contiguous(memory_format=torch.channels_last)
        seen = forward(layers[:-1], parameters, x.to(self._dtype)).float()
        weight, bias = list(parameters.values())[-2:]
        # As many windows as taps; each is as large as the feature grid.
        means = functional.avg_pool2d(seen, self._grid, stride=1)
        return functional.conv2d(
            means, weight[:FEATURE_CHANNELS].float(), bias[:FEATURE_CHANNELS].float()
        ).flatten(1)

    def _one_pass(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.to(self._device).contiguous(memory_format=torch.channels_last)
        teacher = self._features("teacher", x)
        student = self._features("student", x)
        autoencoder = self._features("autoencoder", autoencoder_input(x))
        imitation = student[:, :FEATURE_CHANNELS]
        pooled = teacher if self._feature_source == "teacher" else imitation
        return (
            ops.squared_difference_map(teacher, imitation),
            ops.squared_difference_map(autoencoder, student[:, FEATURE_CHANNELS:]),
            pooled.mean(dim=(2, 3)),
        )

    def _features(self, network: str, x: Tensor) -> Tensor:
        return forward(self._layers[network], self._parameters[network], x.to(self._dtype)).float()

    def _prepared(self, parameters: Parameters) -> dict[str, Tensor]:
        """Copies on the device, the weights in channels-last memory format."""
        return {
            key: parameter.to(self._device, self._dtype, copy=True).contiguous(
                memory_format=torch.channels_last
                if parameter.dim() == 4
                else torch.contiguous_format
            )
            for key, parameter in parameters.items()
        }
