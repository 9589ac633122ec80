"""What a teacher learns in its distillation: normalised descriptors from a pretrained network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientad.backbones import Backbone
from efficientad_ext.architecture import FEATURE_CHANNELS

_NEIGHBOURHOOD = 3


class Descriptors(nn.Module):
    """A backbone and the pooling of its features: (N, 3, H, W) to (N, 384, H / 8, W / 8).

    Follows the locally aware patch features of PatchCore (Roth et al. 2022), on which EfficientAD's
    distillation builds (its appendix): of each of the two levels, every feature is averaged with
    its neighbours in a 3x3 window (at the edge, those that exist), and adaptive average pooling
    over the channels leaves 192 of them, so that both levels have the same share. The coarser level
    is interpolated bilinearly to the finer one's grid, and the finer comes first among the 384
    channels.

    Feature i of stride s is centred on pixel s * i, so every other target on the finer grid falls
    on a coarse feature and the others half-way between two. Descriptor (i, j) is therefore centred
    on pixel (8 i, 8 j), which is where feature (i, j) of a padded PDN is centred that sees the same
    picture at half the size.

    H and W must be multiples of 16.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        for level, channels in zip(("fine", "coarse"), backbone.channels, strict=True):
            self.register_buffer(level, _channel_pooling(channels, FEATURE_CHANNELS // 2))
        self.fine: Tensor
        self.coarse: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors in the backbone's element type."""
        fine, coarse = self.backbone(images)
        # Every step is linear, so the channels are pooled first, while that makes the rest cheaper.
        fine = _neighbourhood_mean(functional.conv2d(fine, self.fine))
        coarse = _neighbourhood_mean(functional.conv2d(coarse, self.coarse))
        return torch.cat([fine, _double(coarse)], dim=1)


def _channel_pooling(channels: int, pooled: int) -> Tensor:
    """Adaptive average pooling over channels as the weight of a 1x1 convolution."""
    matrix = functional.adaptive_avg_pool1d(torch.eye(channels)[None], pooled)[0]
    return matrix.T.reshape(pooled, channels, 1, 1).contiguous()


def _neighbourhood_mean(features: Tensor) -> Tensor:
    return functional.avg_pool2d(
        features, _NEIGHBOURHOOD, stride=1, padding=_NEIGHBOURHOOD // 2, count_include_pad=False
    )


def _double(features: Tensor) -> Tensor:
    """Twice as many rows and columns: (0, 1, ...) to (0, 1/2, 1, ...); the last one is repeated."""
    height, width = features.shape[-2:]
    padded = functional.pad(features, (0, 1, 0, 1), mode="replicate")
    doubled = functional.interpolate(
        padded, (2 * height + 1, 2 * width + 1), mode="bilinear", align_corners=True
    )
    return doubled[..., :-1, :-1]
