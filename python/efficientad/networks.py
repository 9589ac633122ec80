"""The three networks as trainable modules, built from the tables in efficientad_ext.architecture.

Their state dicts have the keys of the most used public implementation.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from efficientad.convolution import Convolution, ConvReLUPool
from efficientad.randomness import Purpose, torch_seed
from efficientad_ext import architecture, ops
from efficientad_ext.architecture import (
    FEATURE_CHANNELS,
    STUDENT_CHANNELS,
    AveragePool,
    Layers,
    ReLU,
    Size,
    Upsample,
    autoencoder_layers,
    check_input_size,
    feature_grid,
    pdn_layers,
)
from efficientad_ext.model_file import Model


def pdn(
    size: Size, out_channels: int, padded: bool = False, random: torch.Generator | None = None
) -> nn.Sequential:
    """A patch description network: (N, 3, H, W) to (N, out_channels, h, w).

    (h, w) is ``feature_grid(H, W)``, or (H / 4, W / 4) if padded.

    Args:
        size: "small" or "medium".
        out_channels: 384 for a teacher, 768 for a student.
        padded: as used while a teacher is distilled; anomaly detection runs unpadded.
        random: what its initial weights are drawn from, on the CPU; None for torch's global one.
    """
    layers = pdn_layers(size, out_channels, padded=padded)
    return _initialized(_sequential(layers), random)


def autoencoder(
    feature_size: tuple[int, int],
    random: torch.Generator | None = None,
    dropout: torch.Generator | None = None,
) -> nn.Sequential:
    """The autoencoder: (N, 3, 256, 256) to (N, 384, *feature_size).

    ``efficientad_ext.inference.autoencoder_input`` brings images to that input size.

    Args:
        feature_size: (h, w) of the student's features.
        random: as in ``pdn``.
        dropout: what decides in training which features are left out, on the network's device;
            None for torch's global one.
    """
    network = _sequential(autoencoder_layers(feature_size), dropout)
    return _initialized(network, random)


def full_precision(features: Tensor) -> Tensor:
    """Features that a network computed in bfloat16 as float32; others as they are."""
    return features.float() if features.dtype == torch.bfloat16 else features


class Dropout(nn.Module):
    """torch's dropout, drawn from a generator; None for torch's global one."""

    def __init__(self, probability: float, random: torch.Generator | None) -> None:
        super().__init__()
        self._kept = 1 - probability
        self._random = random

    def forward(self, features: Tensor) -> Tensor:
        """A tensor of any shape to one of the same."""
        if not self.training:
            return features
        kept = torch.empty_like(features).bernoulli_(self._kept, generator=self._random)
        return features * kept.div_(self._kept)


@dataclass
class Networks:
    """What a training run works on.

    ``teacher_mean`` and ``teacher_deviation`` are (384,) statistics of the teacher's output over
    the training images; student and autoencoder imitate the output normalised with them.
    ``dropout`` is the generator of the autoencoder's dropout, to be seeded before each step.
    """

    teacher: nn.Sequential
    student: nn.Sequential
    autoencoder: nn.Sequential
    teacher_mean: Tensor
    teacher_deviation: Tensor
    dropout: torch.Generator

    def normalized_teacher(self, images: Tensor) -> Tensor:
        """The teacher's features with mean 0 and deviation 1 per channel, without gradient."""
        with torch.no_grad():
            features = full_precision(self.teacher(images))
            mean = self.teacher_mean.view(1, -1, 1, 1)
            return (features - mean) / self.teacher_deviation.view(1, -1, 1, 1)

    def as_model(self, size: Size, input_size: tuple[int, int], training: dict[str, Any]) -> Model:
        """The model as it is before its calibration: neutral quantiles, thresholds of 0."""

        def weights(network: nn.Sequential) -> dict[str, Tensor]:
            return {
                name: tensor.detach().cpu().contiguous()
                for name, tensor in network.state_dict().items()
            }

        return Model(
            size=size,
            input_size=input_size,
            teacher=weights(self.teacher),
            student=weights(self.student),
            autoencoder=weights(self.autoencoder),
            teacher_mean=self.teacher_mean.cpu(),
            teacher_deviation=self.teacher_deviation.cpu(),
            quantiles=(0.0, 1.0, 0.0, 1.0),
            threshold=0.0,
            map_threshold=0.0,
            training=training,
        )


def initial_networks(
    size: Size,
    input_size: tuple[int, int],
    teacher_weights: dict[str, Tensor],
    seed: int,
    device: torch.device,
) -> Networks:
    """A loaded teacher, and a student and an autoencoder with torch's default random weights.

    Raises:
        ValueError: if the input size is below 128x128.
    """
    check_input_size(*input_size)
    random = torch.Generator().manual_seed(torch_seed(seed, Purpose.INITIAL_WEIGHTS))
    dropout = torch.Generator(device)
    student = pdn(size, STUDENT_CHANNELS, random=random)
    imitator = autoencoder(feature_grid(*input_size), random, dropout)
    teacher = pdn(size, FEATURE_CHANNELS, random=random)
    teacher.load_state_dict(teacher_weights)
    teacher.requires_grad_(False)
    # Channels-last weights make torch's CPU convolutions up to twice as fast.
    to_device = {"device": device, "memory_format": torch.channels_last}
    return Networks(
        teacher.eval().to(**to_device),  # type: ignore[call-overload]
        student.to(**to_device),  # type: ignore[call-overload]
        imitator.to(**to_device),  # type: ignore[call-overload]
        torch.zeros(FEATURE_CHANNELS, device=device),
        torch.ones(FEATURE_CHANNELS, device=device),
        dropout,
    )


class _UpsampleBilinear(nn.Module):
    """Bilinear resampling as in detection; unlike torch's, its gradient is repeatable on CUDA."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self._size = size

    def forward(self, features: Tensor) -> Tensor:
        return ops.upsample_bilinear(features, self._size)


def _sequential(layers: Layers, dropout: torch.Generator | None = None) -> nn.Sequential:
    """The layers under their numbers; what ends in an average pool as one, the convolution's."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    index = 0
    while index < len(layers):
        match layers[index : index + 3]:
            case (architecture.Convolution() as first, ReLU(), AveragePool(pool_padding)):
                modules[str(index)] = ConvReLUPool(
                    first.in_channels, first.out_channels, first.kernel, first.padding, pool_padding
                )
                index += 3
            case (layer, *_):
                modules[str(index)] = _module(layer, dropout)
                index += 1
    return nn.Sequential(modules)


def _initialized(network: nn.Sequential, random: torch.Generator | None) -> nn.Sequential:
    for module in network:
        if isinstance(module, Convolution):
            module.initialize(random)
    return network


def _module(layer: object, dropout: torch.Generator | None) -> nn.Module:
    match layer:
        case architecture.Convolution(in_channels, out_channels, kernel, stride, padding):
            return Convolution(in_channels, out_channels, kernel, stride, padding)
        case ReLU():
            return nn.ReLU()
        case Upsample(size):
            return _UpsampleBilinear(size)
        case architecture.Dropout(probability):
            return Dropout(probability, dropout)
    raise TypeError(f"no module is known for the layer {layer!r}")
