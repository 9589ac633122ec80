"""What the ops share that pool a convolution: the sizes, and the checks of what they are given."""

from __future__ import annotations

from torch import Tensor

from efficientad_ext._checks import check_alike, check_feature_maps, check_whole


def convolved_size(x: Tensor, kernel: tuple[int, int], padding: int) -> tuple[int, int]:
    """(height, width) of a convolution of stride 1."""
    height, width = (
        length + 2 * padding - taps + 1 for length, taps in zip(x.shape[2:], kernel, strict=True)
    )
    return height, width


def pooled_size(
    x: Tensor, kernel: tuple[int, int], padding: int, pool_padding: int
) -> tuple[int, int]:
    """(height, width) of its 2x2 pool with stride 2."""
    height, width = convolved_size(x, kernel, padding)
    return (height + 2 * pool_padding) // 2, (width + 2 * pool_padding) // 2


def check_tensors(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise unless these are floating maps, filters and biases that fit each other."""
    check_feature_maps("x", x)
    check_feature_maps("weight", weight)
    check_alike("x", x, "weight", weight)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} for {weight.shape[1]} input channels; "
            f"x has shape {tuple(x.shape)} and {x.shape[1]} channels"
        )
    if bias is not None:
        check_alike("x", x, "bias", bias)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"bias has shape {tuple(bias.shape)}; expected ({weight.shape[0]},) to fit weight"
            )


def check_paddings(x: Tensor, weight: Tensor, padding: int, pool_padding: int) -> tuple[int, int]:
    """The paddings, or an error unless they leave at least one pooling window of pixels."""
    padding, pool_padding = (
        check_whole("padding", padding),
        check_whole("pool_padding", pool_padding),
    )
    if padding < 0 or pool_padding not in (0, 1):
        raise ValueError(
            f"padding is {padding} and pool_padding {pool_padding}; expected a padding of at "
            "least 0 and a pool_padding of 0 or 1"
        )
    kernel = (weight.shape[2], weight.shape[3])
    sizes = convolved_size(x, kernel, padding), pooled_size(x, kernel, padding, pool_padding)
    if min(map(min, sizes)) < 1:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, too small for a kernel of {kernel} with padding "
            f"{padding} and a 2x2 pooling window"
        )
    return padding, pool_padding
