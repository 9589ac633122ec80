"""The fused operations of EfficientAD, on CPU and CUDA tensors; three convolutions on CPU's.

Every op has a plain-torch reference of the same name in :mod:`efficientad_ext.reference`, works on
contiguous, channels-last and channel-sliced tensors, and knows its gradient and its fake-tensor
shape.
"""

from efficientad_ext.ops.bfloat16_convolution import bfloat16_convolution
from efficientad_ext.ops.conv_relu_pool import conv_relu_pool
from efficientad_ext.ops.hard_feature_loss import hard_feature_loss
from efficientad_ext.ops.image_conv_relu_pool import image_conv_relu_pool
from efficientad_ext.ops.normalize_and_combine import normalize_and_combine
from efficientad_ext.ops.quantiles import quantiles
from efficientad_ext.ops.relu_pool import relu_pool
from efficientad_ext.ops.resize_normalize import resize_normalize
from efficientad_ext.ops.squared_difference_map import squared_difference_map
from efficientad_ext.ops.upsample_bilinear import upsample_bilinear
from efficientad_ext.ops.winograd_convolution import winograd_convolution

__all__ = [
    "bfloat16_convolution",
    "conv_relu_pool",
    "hard_feature_loss",
    "image_conv_relu_pool",
    "normalize_and_combine",
    "quantiles",
    "relu_pool",
    "resize_normalize",
    "squared_difference_map",
    "upsample_bilinear",
    "winograd_convolution",
]
