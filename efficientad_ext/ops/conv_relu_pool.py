"""Convolution, bias, ReLU and 2x2 average pooling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from efficientad_ext._checks import check_floating
from efficientad_ext._derivatives import register_composite
from efficientad_ext._layout import empty_like_layout, for_kernels, is_channels_last
from efficientad_ext._pooled_convolution import check_paddings, check_tensors, pooled_size
from efficientad_ext._registry import Backend, backend_of, register
from efficientad_ext.ops.image_conv_relu_pool import can_be_of_images, image_conv_relu_pool
from efficientad_ext.ops.relu_pool import raw_relu_pool


def _pooled_shape(
    x: Tensor, weight: Tensor, padding: int, pool_padding: int
) -> tuple[int, int, int, int]:
    kernel = (weight.shape[2], weight.shape[3])
    return x.shape[0], weight.shape[0], *pooled_size(x, kernel, padding, pool_padding)


def _in_two_ops(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, pool_padding: int
) -> Tensor:
    return raw_relu_pool(functional.conv2d(x, weight, bias, padding=padding), pool_padding)


def _implementation(
    backend: Backend,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int,
    pool_padding: int,
) -> Tensor:
    shape = _pooled_shape(x, weight, padding, pool_padding)
    if not backend.has("conv_relu_pool") or 0 in shape or x.shape[1] == 0:
        return _in_two_ops(x, weight, bias, padding, pool_padding)
    x = for_kernels(x)
    output = empty_like_layout(x, shape)
    bias = None if bias is None else bias.contiguous()
    arguments = (x, weight.contiguous(), bias, padding, pool_padding, output)
    workspace = backend.workspace("conv_relu_pool", x.device, *arguments)
    backend.run("conv_relu_pool", x.device, *arguments, workspace)
    return output


def _fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, pool_padding: int
) -> Tensor:
    if x.device.type == "cpu":
        return _in_two_ops(x, weight, bias, padding, pool_padding)
    return empty_like_layout(for_kernels(x), _pooled_shape(x, weight, padding, pool_padding))


_raw = register(
    "conv_relu_pool(Tensor x, Tensor weight, Tensor? bias, int padding, int pool_padding) "
    "-> Tensor",
    _implementation,
    _fake,
)
_call = register_composite(_raw, _in_two_ops)


def _in_autocast_type(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _is_of_images(x: Tensor, weight: Tensor) -> bool:
    """Whether a kernel for images computes this on the CPU, in torch's memory format."""
    return (
        can_be_of_images(x, weight)
        and is_channels_last(x)
        and not x.requires_grad
        # Which tests put an emulated GPU in place of.
        and backend_of(x.device).has("image_conv_relu_pool")
    )


def conv_relu_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int = 0,
    pool_padding: int = 0,
) -> Tensor:
    """Stride-1 convolution, bias, ReLU, and 2x2 average pooling with stride 2.

    The first two stages of a patch description network (EfficientAD, appendix A), unpadded in
    anomaly detection and padded in the teacher's distillation. Without gradients, the activation of
    full size need not be written (the CUDA kernel does not); with gradients it is kept for the
    backward pass, and torch's convolution computes it. For channels-last images on a CPU, where no
    gradient of them is wanted and the weight fits, this is
    :func:`efficientad_ext.ops.image_conv_relu_pool`, which never writes it. Within
    ``torch.autocast`` everything but float64 is converted to its type first, as torch's convolution
    does.

    Args:
        x: (N, C, H, W), float64, float32, float16 or bfloat16, contiguous or channels-last.
        weight: (out channels, C, kernel height, kernel width), same type and device.
        bias: (out channels,), or None.
        padding: zeros around ``x``, on every side.
        pool_padding: 0, or 1 for a border of zeros around the activation; they count in the
        average.

    Returns:
        (N, out channels, h, w) with h = (H + 2 padding - kernel height + 1 + 2 pool_padding) // 2
        and w likewise, in the memory format that torch's convolution gives.

    Raises:
        TypeError: for other element types, or different ones, or a padding that is no whole number.
        ValueError: for shapes that do not fit, tensors on different devices, a negative padding, or
            an input smaller than the kernel and a pooling window.
    """
    check_floating("x", x)
    check_floating("weight", weight)
    device_type = x.device.type
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        x, weight = _in_autocast_type(x), _in_autocast_type(weight)
        bias = None if bias is None else _in_autocast_type(bias)
    check_tensors(x, weight, bias)
    padding, pool_padding = check_paddings(x, weight, padding, pool_padding)
    if _is_of_images(x, weight):
        return image_conv_relu_pool(x, weight, bias, padding=padding, pool_padding=pool_padding)
    return _call(x, weight, bias, padding, pool_padding)
