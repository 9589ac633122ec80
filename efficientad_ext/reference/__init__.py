"""The ops of :mod:`efficientad_ext.ops` in plain torch: what the kernels are tested against.

Each function has the arguments and the result of the op of the same name, works on every device and
in every floating type, and computes in the type it is given: pass float64 for a reference value.
The detection engine's kernels, which are no ops, have theirs here too, on channels-last tensors.
"""

from efficientad_ext.reference.bfloat16_convolution import bfloat16_convolution
from efficientad_ext.reference.conv_relu_pool import conv_relu_pool
from efficientad_ext.reference.hard_feature_loss import hard_feature_loss
from efficientad_ext.reference.image_conv_relu_pool import image_conv_relu_pool
from efficientad_ext.reference.image_convolution import image_convolution
from efficientad_ext.reference.linear import linear
from efficientad_ext.reference.normalize_and_combine import normalize_and_combine
from efficientad_ext.reference.quantiles import quantiles
from efficientad_ext.reference.relu_pool import relu_pool
from efficientad_ext.reference.resize_normalize import resize_normalize
from efficientad_ext.reference.segment_convolution import segment_convolution
from efficientad_ext.reference.squared_difference_map import squared_difference_map
from efficientad_ext.reference.upsample_bilinear import upsample_bilinear
from efficientad_ext.reference.window_means import window_means
from efficientad_ext.reference.winograd_convolution import winograd_convolution

__all__ = [
    "bfloat16_convolution",
    "conv_relu_pool",
    "hard_feature_loss",
    "image_conv_relu_pool",
    "image_convolution",
    "linear",
    "normalize_and_combine",
    "quantiles",
    "relu_pool",
    "resize_normalize",
    "segment_convolution",
    "squared_difference_map",
    "upsample_bilinear",
    "window_means",
    "winograd_convolution",
]
