"""Convolutions that are never trained, with their batch normalisation folded in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init


class FrozenWeights:
    """Builds convolutions from a state dict whose keys are a published network's.

    Args:
        state: parameters and running statistics by key; what no convolution asks for is ignored.
        network: what to call the network in an error.
        epsilon: what its batch normalisation adds to the variance.
    """

    def __init__(self, state: Mapping[str, Tensor], network: str, epsilon: float) -> None:
        self._state = state
        self._network = network
        self._epsilon = epsilon

    def convolution(
        self,
        name: str,
        norm: str,
        channels: tuple[int, int],
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> nn.Conv2d:
        """The convolution ``name`` and the batch normalisation ``norm`` behind it, as one.

        Its padding is half the kernel on each side, so that output i is centred on input
        ``stride`` * i, at any stride.

        Raises:
            ValueError: if a parameter is missing, has another shape, or is not finite.
        """
        in_channels, out_channels = channels
        weight = self._read(f"{name}.weight", (out_channels, in_channels // groups, kernel, kernel))
        scale, shift, mean, variance = (
            self._read(f"{norm}.{kind}", (out_channels,))
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / (variance + self._epsilon).sqrt()
        # Random weights would be drawn from torch's global generator, which is the caller's.
        folded = skip_init(
            nn.Conv2d,
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=kernel // 2,
            groups=groups,
        )
        assert isinstance(folded, nn.Conv2d)
        assert folded.bias is not None
        with torch.no_grad():
            folded.weight.copy_(weight * factor.view(-1, 1, 1, 1))
            folded.bias.copy_(shift - mean * factor)
        return folded.requires_grad_(False)

    def _read(self, key: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._state.get(key)
        if tensor is None:
            raise ValueError(f"these are not the weights of {self._network}: {key} is missing")
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"these are not the weights of {self._network}: {key} has shape "
                f"{tuple(tensor.shape)}; expected {shape}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{key} of {self._network} has NaN or infinite values")
        return tensor.double()
