"""What the ops that are convolutions with gradients of their own share: all but their kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import grad

from efficientad_ext._checks import check_feature_maps, check_whole
from efficientad_ext._derivatives import Op, register_composite, register_gradient
from efficientad_ext._layout import pixels_of
from efficientad_ext._registry import Backend, register

_CHANNEL_MULTIPLE = 64


def _summed(dtype: torch.dtype) -> torch.dtype:
    """The type of a convolution's weight and bias, by that of its maps."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


def _empty_last(
    tensor: Tensor, shape: tuple[int, int, int, int], dtype: torch.dtype | None = None
) -> Tensor:
    """Channels-last whatever its shape: (N, H, W, C) memory seen as ``shape``, (N, C, H, W)."""
    batch, channels, height, width = shape
    return tensor.new_empty((batch, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)


def _output_shape(x: Tensor, weight: Tensor, padding: int) -> tuple[int, int, int, int]:
    """That of a convolution of stride 1."""
    height, width = (length + 2 * padding - weight.shape[2] + 1 for length in x.shape[2:])
    return x.shape[0], weight.shape[0], height, width


@dataclass(frozen=True)
class ConvolutionKind:
    """A way to compute convolutions of stride 1, and their gradients, on the CPU.

    Attributes:
        name: the op's.
        convolution: the kernel; its transposed convolution gives the input's gradient.
        weights: the kernel that brings a weight into the order in which ``convolution`` reads it.
        weight_size: how many numbers of such a weight one filter becomes, by its taps along either
            axis.
        filter_gradient: the kernel that computes the weight's gradient.
        types: of the maps. The weight's type is theirs, or float32 where they are bfloat16.
        kernels: how many taps along either axis there may be.
    """

    name: str
    convolution: str
    weights: str
    weight_size: Callable[[int], int]
    filter_gradient: str
    types: tuple[torch.dtype, ...]
    kernels: tuple[int, ...]

    def fits(self, x: Tensor, weight: Tensor, stride: int = 1) -> bool:
        """Whether it computes convolutions of ``weight``, (O, C, K, K), over maps as ``x``.

        Of these, the type and the place count.
        """
        return (
            x.device.type == weight.device.type == "cpu"
            and x.dtype in self.types
            and weight.dtype == _summed(x.dtype)
            and stride == 1
            and weight.dim() == 4
            and weight.shape[2] == weight.shape[3]
            and weight.shape[2] in self.kernels
            and weight.shape[0] % _CHANNEL_MULTIPLE == 0
            and weight.shape[1] % _CHANNEL_MULTIPLE == 0
        )

    def check(self, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> int:
        """The padding, after all arguments were checked.

        Raises:
            TypeError: for another element type, or a padding that is no whole number.
            ValueError: for tensors elsewhere, other shapes, a bias of another type or another
                padding.
        """
        check_feature_maps("x", x)
        if x.dtype not in self.types or weight.dtype != _summed(x.dtype):
            fitting = " or ".join(f"x of {one} with weight of {_summed(one)}" for one in self.types)
            raise TypeError(f"x is of {x.dtype} and weight of {weight.dtype}; expected {fitting}")
        if x.device.type != "cpu":
            raise ValueError(f"x is on {x.device}; expected it on the CPU")
        if not self.fits(x, weight):
            taps = f"{', '.join(map(str, self.kernels[:-1]))} or {self.kernels[-1]}"
            raise ValueError(
                f"weight has shape {tuple(weight.shape)} and is on {weight.device}; expected "
                f"(O, C, K, K) on the CPU, K {taps}, O and C multiples of {_CHANNEL_MULTIPLE}"
            )
        kernel = weight.shape[2]
        if weight.shape[1] != x.shape[1]:
            raise ValueError(f"weight is for {weight.shape[1]} channels, but x has {x.shape[1]}")
        if bias is not None and (
            tuple(bias.shape) != (weight.shape[0],)
            or bias.dtype != weight.dtype
            or bias.device != weight.device
        ):
            raise ValueError(
                f"bias has shape {tuple(bias.shape)} and element type {bias.dtype} and is on "
                f"{bias.device}; expected ({weight.shape[0]},) and {weight.dtype} on the CPU"
            )
        padding = check_whole("padding", padding)
        if not 0 <= padding < kernel:
            raise ValueError(f"padding is {padding}; expected 0 to {kernel - 1}")
        if min(_output_shape(x, weight, padding)[2:]) < 1:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, smaller than the kernel {kernel}x{kernel} with a "
                f"padding of {padding}"
            )
        return padding

    def register(self) -> Op:
        """Register the raw op ``name`` and those of its gradients; returns what to call.

        Its arguments are those of ``check``.
        """
        name = self.name
        forward = register(
            f"{name}(Tensor x, Tensor weight, Tensor? bias, int padding) -> Tensor",
            self._forward,
            _forward_fake,
        )
        input_gradient = register(
            f"{name}_input_gradient(Tensor gradient, Tensor weight, int[] size, int padding)"
            " -> Tensor",
            self._input_gradient,
            _input_gradient_fake,
        )
        weight_gradient = register(
            f"{name}_weight_gradient(Tensor gradient, Tensor x, int kernel, int padding) -> Tensor",
            self._weight_gradient,
            _weight_gradient_fake,
        )

        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            x, weight = context.saved_tensors
            padding = context.padding
            wants_x, wants_weight, wants_bias, _ = context.needs_input_grad
            size = list(x.shape[2:])
            return (
                input_gradient(gradient, weight, size, padding) if wants_x else None,
                weight_gradient(gradient, x, weight.shape[2], padding) if wants_weight else None,
                # Asked for float32, torch would copy a gradient in bfloat16 first.
                gradient.sum((0, 2, 3)).to(weight.dtype) if wants_bias else None,
                None,
            )

        register_composite(input_gradient, _input_gradient_by_torch)
        register_composite(weight_gradient, _weight_gradient_by_torch)
        return register_gradient(forward, _save, backward)

    def _convolve(
        self,
        backend: Backend,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        output: Tensor,
        transposed: bool = False,
    ) -> Tensor:
        """Writes the convolution, or that which is transposed to it, to ``output``."""
        if output.numel() == 0:
            return output
        outputs, kernel = output.shape[1], weight.shape[2]
        filters = weight.shape[0] * weight.shape[1]
        packed = x.new_empty((outputs, filters // outputs * self.weight_size(kernel)))
        backend.run(self.weights, x.device, pixels_of(weight), transposed, packed)
        backend.run(
            self.convolution,
            x.device,
            [(pixels_of(x), 0, x.shape[1], kernel, 1, padding, None)],
            packed,
            weight.new_zeros(outputs) if bias is None else bias.contiguous(),
            tuple(output.shape[2:]),
            outputs,
            "store",
            output.permute(0, 2, 3, 1),
        )
        return output

    def _forward(
        self, backend: Backend, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int
    ) -> Tensor:
        output = _forward_fake(x, weight, bias, padding)
        return self._convolve(backend, x, weight, bias, padding, output)

    def _input_gradient(
        self, backend: Backend, gradient: Tensor, weight: Tensor, size: list[int], padding: int
    ) -> Tensor:
        output = _input_gradient_fake(gradient, weight, size, padding)
        around = weight.shape[2] - 1 - padding
        return self._convolve(backend, gradient, weight, None, around, output, transposed=True)

    def _weight_gradient(
        self, backend: Backend, gradient: Tensor, x: Tensor, kernel: int, padding: int
    ) -> Tensor:
        output = _weight_gradient_fake(gradient, x, kernel, padding)
        if gradient.numel() == 0:
            return output.zero_()
        backend.run(
            self.filter_gradient,
            x.device,
            pixels_of(x),
            pixels_of(gradient),
            padding,
            output.permute(0, 2, 3, 1),
        )
        return output


def _forward_fake(x: Tensor, weight: Tensor, _bias: Tensor | None, padding: int) -> Tensor:
    return _empty_last(x, _output_shape(x, weight, padding))


def _input_gradient_fake(
    gradient: Tensor, weight: Tensor, size: list[int], _padding: int
) -> Tensor:
    return _empty_last(gradient, (gradient.shape[0], weight.shape[1], size[0], size[1]))


def _weight_gradient_fake(gradient: Tensor, x: Tensor, kernel: int, _padding: int) -> Tensor:
    shape = (gradient.shape[1], x.shape[1], kernel, kernel)
    return _empty_last(x, shape, _summed(x.dtype))


def _save(
    context: Any, arguments: tuple[Tensor, Tensor, Tensor | None, int], _result: Tensor
) -> None:
    x, weight, _, context.padding = arguments
    context.save_for_backward(x, weight)


def _input_gradient_by_torch(
    gradient: Tensor, weight: Tensor, size: list[int], padding: int
) -> Tensor:
    shape = (gradient.shape[0], weight.shape[1], *size)
    return grad.conv2d_input(shape, weight.to(gradient.dtype), gradient, padding=padding)


def _weight_gradient_by_torch(gradient: Tensor, x: Tensor, kernel: int, padding: int) -> Tensor:
    shape, summed = (gradient.shape[1], x.shape[1], kernel, kernel), _summed(x.dtype)
    return grad.conv2d_weight(x.to(summed), shape, gradient.to(summed), padding=padding)
