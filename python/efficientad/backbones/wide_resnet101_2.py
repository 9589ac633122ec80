"""WideResNet-101-2 up to stride 16 (Zagoruyko and Komodakis 2016), the paper's backbone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from efficientad.backbones.frozen import FrozenWeights

_STEM_CHANNELS = 64
_NORM_EPSILON = 1e-5
_EXPANSION = 2  # of a block's output over its hidden channels; 4 in a ResNet that is not wide


class WideResNet101(nn.Module):
    """The features behind layers 2 and 3, with 512 and 1024 channels.

    Feature i of stride s is centred on pixel s * i.

    Args:
        state: a state dict with torchvision's keys; those behind layer 3 are not needed.

    Raises:
        ValueError: if these are the weights of another network.
    """

    channels = (512, 1024)

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        weights = FrozenWeights(state, "wide_resnet101_2", _NORM_EPSILON)
        stem = weights.convolution("conv1", "bn1", (3, _STEM_CHANNELS), kernel=7, stride=2)
        self.to_stride_8 = nn.Sequential(
            stem,
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            _layer(weights, "layer1", 3, (_STEM_CHANNELS, 256), stride=1),
            _layer(weights, "layer2", 4, (256, 512), stride=2),
        )
        self.to_stride_16 = _layer(weights, "layer3", 23, (512, 1024), stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W), normalised, to (N, 512, H / 8, W / 8) and (N, 1024, H / 16, W / 16)."""
        fine = self.to_stride_8(images)
        return fine, self.to_stride_16(fine)


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, added to the input or to its projection."""

    def __init__(
        self, weights: FrozenWeights, prefix: str, channels: tuple[int, int], stride: int
    ) -> None:
        super().__init__()
        in_channels, out_channels = channels
        hidden = out_channels // _EXPANSION
        self.layers = nn.Sequential(
            weights.convolution(f"{prefix}.conv1", f"{prefix}.bn1", (in_channels, hidden)),
            nn.ReLU(inplace=True),
            weights.convolution(
                f"{prefix}.conv2", f"{prefix}.bn2", (hidden, hidden), kernel=3, stride=stride
            ),
            nn.ReLU(inplace=True),
            weights.convolution(f"{prefix}.conv3", f"{prefix}.bn3", (hidden, out_channels)),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = weights.convolution(
                f"{prefix}.downsample.0", f"{prefix}.downsample.1", channels, stride=stride
            )

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.shortcut(features) + self.layers(features))


def _layer(
    weights: FrozenWeights, name: str, blocks: int, channels: tuple[int, int], stride: int
) -> nn.Sequential:
    in_channels, out_channels = channels
    first = _Bottleneck(weights, f"{name}.0", (in_channels, out_channels), stride)
    others = (
        _Bottleneck(weights, f"{name}.{index}", (out_channels, out_channels), stride=1)
        for index in range(1, blocks)
    )
    return nn.Sequential(first, *others)
