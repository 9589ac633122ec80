"""The networks of EfficientAD as tables, and the geometry of their feature maps.

Pure data: the training networks and the detector are both built from these tables. The position of
a layer in its table is its position in the `torch.nn.Sequential` of the most used public
implementation, so `pdn_layers("small", 384)[3]` owns the parameters `3.weight` and `3.bias`.

Source: EfficientAD (WACV 2024), appendix A; summarised in the tables' docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Size: TypeAlias = Literal["small", "medium"]
SIZES: tuple[Size, ...] = ("small", "medium")

FEATURE_CHANNELS = 384
"""Channels of the teacher and of the autoencoder, and of each half of the student's output."""

STUDENT_CHANNELS = 2 * FEATURE_CHANNELS
"""The first half imitates the teacher (local map), the second the autoencoder (global map)."""

RECEPTIVE_FIELD = 33
"""Edge length, in input pixels, of the square that one PDN feature sees."""

FEATURE_STRIDE = 4
"""Distance, in input pixels, between the centres of neighbouring features."""

FIRST_FEATURE_CENTRE = 16
"""Feature (i, j) of an unpadded PDN is centred on pixel (16 + 4 i, 16 + 4 j), counted from 0."""

MINIMUM_INPUT_SIZE = 128
"""Smallest height and width of the network's input."""

AUTOENCODER_INPUT = (256, 256)
"""(height, width) that the autoencoder's encoder sees, so that its bottleneck is 64 numbers."""

DROPOUT = 0.2


@dataclass(frozen=True)
class Convolution:
    """A square convolution with bias; its weight is (out_channels, in_channels, kernel, kernel)."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True)
class AveragePool:
    """2x2 average pooling with stride 2; padded zeros count in the average."""

    padding: int = 0


@dataclass(frozen=True)
class Upsample:
    """Bilinear resampling to (height, width), half-pixel centres (`align_corners=False`)."""

    size: tuple[int, int]


@dataclass(frozen=True)
class Dropout:
    """Dropout of single elements, active in training only."""

    probability: float = DROPOUT


Layer: TypeAlias = Convolution | ReLU | AveragePool | Upsample | Dropout
Layers: TypeAlias = tuple[Layer, ...]


@dataclass(frozen=True)
class BlindBorder:
    """Widths, in pixels of the network's input, of the strips that hold no feature's centre."""

    top: int
    bottom: int
    left: int
    right: int


def pdn_layers(size: Size, out_channels: int, *, padded: bool = False) -> Layers:
    """The layers of a patch description network (PDN): teacher or student.

    Kernel/channels, all with stride 1:
    small   4/128 ReLU, pool, 4/256 ReLU, pool, 3/256 ReLU, 4/out linear.
    medium  4/256 ReLU, pool, 4/512 ReLU, pool, 1/512 ReLU, 3/512 ReLU, 4/out ReLU, 1/out linear.

    Args:
        size: "small" (PDN-S) or "medium" (PDN-M).
        out_channels: `FEATURE_CHANNELS` for a teacher, `STUDENT_CHANNELS` for a student.
        padded: True while a teacher is distilled (256x256 in, 64x64 out); False for anomaly
            detection (256x256 in, 56x56 out).

    Raises:
        ValueError: `size` is neither "small" nor "medium".
    """
    padding_of_4x4, padding_of_3x3, pool = (3, 1, 1) if padded else (0, 0, 0)
    if size == "small":
        return (
            Convolution(3, 128, 4, padding=padding_of_4x4),
            ReLU(),
            AveragePool(pool),
            Convolution(128, 256, 4, padding=padding_of_4x4),
            ReLU(),
            AveragePool(pool),
            Convolution(256, 256, 3, padding=padding_of_3x3),
            ReLU(),
            Convolution(256, out_channels, 4),
        )
    if size == "medium":
        return (
            Convolution(3, 256, 4, padding=padding_of_4x4),
            ReLU(),
            AveragePool(pool),
            Convolution(256, 512, 4, padding=padding_of_4x4),
            ReLU(),
            AveragePool(pool),
            Convolution(512, 512, 1),
            ReLU(),
            Convolution(512, 512, 3, padding=padding_of_3x3),
            ReLU(),
            Convolution(512, out_channels, 4),
            ReLU(),
            Convolution(out_channels, out_channels, 1),
        )
    raise ValueError(f'size is {size!r}; expected "small" or "medium"')


def autoencoder_layers(feature_size: tuple[int, int]) -> Layers:
    """The layers of the autoencoder.

    Encoder: five 4x4 convolutions of stride 2 with 32, 32, 64, 64 and 64 channels, each with ReLU,
    and an 8x8 convolution to the bottleneck (64, 1, 1). Decoder: six times upsampling to 3, 8, 15,
    32, 63 and 127, a 4x4 convolution, ReLU and dropout; then upsampling to `feature_size`, a 3x3
    convolution with ReLU and a linear 3x3 convolution to `FEATURE_CHANNELS`.

    Args:
        feature_size: (height, width) of the student's output, see `feature_grid`.
    """
    encoder: list[Layer] = []
    for in_channels, out_channels in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        encoder += [Convolution(in_channels, out_channels, 4, stride=2, padding=1), ReLU()]
    encoder.append(Convolution(64, 64, 8))

    decoder: list[Layer] = []
    for edge in (3, 8, 15, 32, 63, 127):
        decoder += [Upsample((edge, edge)), Convolution(64, 64, 4, padding=2), ReLU(), Dropout()]
    decoder += [
        Upsample(feature_size),
        Convolution(64, 64, 3, padding=1),
        ReLU(),
        Convolution(64, FEATURE_CHANNELS, 3, padding=1),
    ]
    return (*encoder, *decoder)


def check_input_size(height: int, width: int) -> None:
    """Raises ValueError if the network's input of height x width pixels is too small."""
    if min(height, width) < MINIMUM_INPUT_SIZE:
        raise ValueError(
            f"the network's input is {height}x{width} pixels; expected at least "
            f"{MINIMUM_INPUT_SIZE}x{MINIMUM_INPUT_SIZE}: choose a larger image size"
        )


def feature_grid(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the feature map that an unpadded PDN, small or medium, makes.

    Raises:
        ValueError: the input is smaller than the receptive field, so that no feature fits.
    """
    if min(height, width) < RECEPTIVE_FIELD:
        raise ValueError(
            f"an input of {height}x{width} pixels holds no feature; expected at least "
            f"{RECEPTIVE_FIELD}x{RECEPTIVE_FIELD}"
        )

    # 4x4 convolution, pool, 4x4 convolution, pool, then a 3x3 and a 4x4 convolution.
    def features(pixels: int) -> int:
        return ((pixels - 3) // 2 - 3) // 2 - 5

    return features(height), features(width)


def blind_border(height: int, width: int) -> BlindBorder:
    """The border of an input of height x width pixels beyond the outermost feature centres."""
    rows, columns = feature_grid(height, width)

    def beyond_last(pixels: int, features: int) -> int:
        return pixels - 1 - (FIRST_FEATURE_CENTRE + FEATURE_STRIDE * (features - 1))

    return BlindBorder(
        top=FIRST_FEATURE_CENTRE,
        bottom=beyond_last(height, rows),
        left=FIRST_FEATURE_CENTRE,
        right=beyond_last(width, columns),
    )


def parameter_shapes(layers: Layers) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, by its key in the Sequential's state dict, in layer order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, Convolution):
            shapes[f"{index}.weight"] = (
                layer.out_channels,
                layer.in_channels,
                layer.kernel,
                layer.kernel,
            )
            shapes[f"{index}.bias"] = (layer.out_channels,)
    return shapes


def named_layout(layers: Layers) -> dict[str, str]:
    """Keys of the second public layout, mapped to the Sequential's.

    A PDN's convolutions are `conv1`, `conv2`, ...; the autoencoder's `encoder.enconv1` ... before
    its first upsampling, and `decoder.deconv1` ... after it.
    """
    upsamples = [index for index, layer in enumerate(layers) if isinstance(layer, Upsample)]
    convolutions = [index for index, layer in enumerate(layers) if isinstance(layer, Convolution)]
    if upsamples:
        encoder = [index for index in convolutions if index < upsamples[0]]
        decoder = convolutions[len(encoder) :]
        names = [f"encoder.enconv{number + 1}" for number in range(len(encoder))]
        names += [f"decoder.deconv{number + 1}" for number in range(len(decoder))]
    else:
        names = [f"conv{number + 1}" for number in range(len(convolutions))]
    return {
        f"{name}.{parameter}": f"{index}.{parameter}"
        for name, index in zip(names, convolutions, strict=True)
        for parameter in ("weight", "bias")
    }


class HasShape(Protocol):
    """Anything with a shape, such as a torch.Tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each dimension."""


Parameter = TypeVar("Parameter", bound=HasShape)


def sequential_state(
    state: Mapping[str, Parameter], layers: Layers, network: str
) -> dict[str, Parameter]:
    """A state dict in either public layout, brought to the Sequential's keys and order.

    Args:
        state: parameters by key.
        layers: the network that the state dict is for.
        network: what to call the network in an error, such as "teacher (small)".

    Raises:
        ValueError: a parameter is missing, unknown, or of another shape than `layers` has.
    """
    renamed = named_layout(layers)
    sequential = {renamed.get(key, key): value for key, value in state.items()}
    shapes = parameter_shapes(layers)
    missing = [key for key in shapes if key not in sequential]
    unknown = [key for key in state if renamed.get(key, key) not in shapes]
    if missing or unknown:
        found = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise ValueError(
            f"the parameters are not those of the {network}: {found}; "
            f"expected the keys {', '.join(list(shapes)[:2])}, ..., {list(shapes)[-1]}"
        )
    for key, shape in shapes.items():
        if tuple(sequential[key].shape) != shape:
            raise ValueError(
                f"{key} of the {network} has shape {tuple(sequential[key].shape)}; expected {shape}"
            )
    return {key: sequential[key] for key in shapes}
