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


def check_fake_tensors(
    name: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    gradient: Tensor,
    padding: int,
) -> None:
    """The raw ops of that name, and those of its gradients, as torch wants ops to be."""
    for variable in (x, weight, gradient):
        variable.requires_grad_()
    kernel, size = weight.shape[2], list(x.shape[2:])
    for suffix, arguments in (
        ("", (x, weight, bias, padding)),
        ("_input_gradient", (gradient, weight, size, padding)),
        ("_weight_gradient", (gradient, x, kernel, padding)),
    ):
        op = getattr(torch.ops.efficientad_ext, f"{name}{suffix}").default
        torch.library.opcheck(op, arguments)


def check_empty_batch(convolve: Callable[..., Tensor], *operands: Tensor) -> None:
    """No image in, no output out; no gradient of the input, and zeros for the weight."""
    output, *gradients = with_gradients(convolve, *operands, 0)
    x, _, _, gradient = operands
    assert output.shape == gradient.shape
    assert gradients[0].shape == x.shape
    assert not gradients[1].any()


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
