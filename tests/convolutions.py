"""What the tests of both convolutions with gradients of their own share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def with_gradients(
    convolve: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    gradient: Tensor,
    padding: int,
) -> tuple[Tensor, ...]:
    """The output and the gradients of x, weight and bias."""
    variables = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
    output = convolve(*variables, padding=padding)
    return output, *torch.autograd.grad(output, variables, gradient)


def assert_repeatable(function: Callable[[], tuple[Tensor, ...]]) -> None:
    """The same bits come out with any number of threads."""
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5, 64):
            torch.set_num_threads(count)
            results.append(function())
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))
