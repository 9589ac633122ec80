"""What derivatives the ops have, and that others are errors, not zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.autograd import forward_ad

from efficientad_ext import ops

# torch's own forward mode scripts functions.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

QUANTILES = (0.0, 1.0, 0.0, 1.0)

OPS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "conv_relu_pool": (lambda x: ops.conv_relu_pool(x, x.new_ones(4, 3, 2, 2)), (1, 3, 6, 6)),
    "hard_feature_loss": (lambda x: ops.hard_feature_loss(x, x.new_zeros(x.shape)), (1, 3, 4, 4)),
    "normalize_and_combine": (
        lambda x: ops.normalize_and_combine(x, x.new_zeros(x.shape), QUANTILES, (128, 128))[0],
        (1, 1, 24, 24),
    ),
    "quantiles": (lambda x: ops.quantiles(x, 0.5), (9,)),
    "relu_pool": (ops.relu_pool, (1, 3, 4, 4)),
    "resize_normalize": (lambda x: ops.resize_normalize(x, (4, 4)), (1, 4, 6, 6)),
    "squared_difference_map": (
        lambda x: ops.squared_difference_map(x, x.new_zeros(x.shape)),
        (1, 3, 4, 4),
    ),
    "upsample_bilinear": (lambda x: ops.upsample_bilinear(x, (9, 9)), (1, 3, 4, 4)),
    "winograd_convolution": (
        lambda x: ops.winograd_convolution(x, x.new_ones(64, 64, 3, 3)),
        (1, 64, 6, 6),
    ),
}
ONCE = ("hard_feature_loss", "normalize_and_combine", "quantiles", "resize_normalize")


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("differentiated", [True, False])
def test_forward_mode_is_refused(name: str, differentiated: bool):
    op, shape = OPS[name]
    x = torch.rand(shape, requires_grad=differentiated)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        op(forward_ad.make_dual(x, torch.rand(shape)))


@pytest.mark.parametrize("name", ["relu_pool", "hard_feature_loss"])
def test_forward_mode_of_functions_is_refused(name: str):
    op, shape = OPS[name]
    with pytest.raises(RuntimeError):
        torch.func.jvp(op, (torch.rand(shape),), (torch.rand(shape),))


@pytest.mark.parametrize("name", ONCE)
def test_a_gradient_that_can_be_taken_once_is_not_taken_twice(name: str):
    op, shape = OPS[name]
    x = torch.rand(shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(op(x).square().sum(), x, create_graph=True)
    with torch.no_grad():
        (expected,) = torch.autograd.grad(_squares(op, x), x)
    assert torch.equal(gradient, expected)
    with pytest.raises(RuntimeError, match="can be taken once, not twice"):
        (gradient.square().sum() + x.sum()).backward()


@pytest.mark.parametrize("name", OPS)
def test_gradients_pass_a_checkpoint(name: str):
    op, shape = OPS[name]
    x = torch.rand(shape, requires_grad=True)
    expected = torch.autograd.grad(op(x).square().sum(), x)
    torch.utils.checkpoint.checkpoint(op, x, use_reentrant=False).square().sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected[0], rtol=0, atol=0)


def test_a_gradient_penalty_behind_winograds_convolution_reaches_the_weights():
    torch.manual_seed(3)
    x = torch.randn(1, 64, 6, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(64, 64, 3, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for convolution in (torch.nn.functional.conv2d, ops.winograd_convolution):
        output = convolution(x, weight)
        (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        loss = output.square().mean() + gradient.square().mean()
        found.append(torch.autograd.grad(loss, weight)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def _squares(op: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        return op(x).square().sum()
