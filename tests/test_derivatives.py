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

IMAGE = torch.rand(1, 3, 6, 6).contiguous(memory_format=torch.channels_last)
QUANTILES = (0.0, 1.0, 0.0, 1.0)

OPS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "bfloat16_convolution": (
        lambda x: ops.bfloat16_convolution(x.bfloat16(), torch.ones(64, 64, 3, 3)).to(x.dtype),
        (1, 64, 6, 6),
    ),
    "conv_relu_pool": (lambda x: ops.conv_relu_pool(x, x.new_ones(4, 3, 2, 2)), (1, 3, 6, 6)),
    "conv_relu_pool of images": (
        lambda x: ops.conv_relu_pool(IMAGE.to(x.dtype), x),
        (64, 3, 4, 4),
    ),
    "hard_feature_loss": (lambda x: ops.hard_feature_loss(x, x.new_zeros(x.shape)), (1, 3, 4, 4)),
    "image_conv_relu_pool": (
        lambda x: ops.image_conv_relu_pool(x, x.new_ones(64, 3, 4, 4)),
        (1, 3, 6, 6),
    ),
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
ONCE = "hard_feature_loss"
TWICE = [name for name in OPS if name != ONCE]


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


def test_the_gradient_of_the_hard_feature_loss_is_not_taken_twice():
    x = torch.rand(1, 3, 4, 4, requires_grad=True)
    loss = ops.hard_feature_loss(torch.zeros_like(x), x)
    (expected,) = torch.autograd.grad(loss, x, retain_graph=True)
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    assert torch.equal(gradient, expected)
    with pytest.raises(RuntimeError, match="can be taken once, not twice"):
        gradient.square().sum().backward()


# What rounds its input has no finite differences; it has a test of its own.
@pytest.mark.parametrize("name", [name for name in TWICE if name != "bfloat16_convolution"])
def test_second_derivatives(name: str):
    op, shape = OPS[name]
    if name == "winograd_convolution":
        shape = (1, 64, 3, 3)
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: op(x).square(), (x,), fast_mode=True)


@pytest.mark.parametrize(
    "name", [name for name in OPS if name not in ("quantiles", ONCE, "conv_relu_pool of images")]
)
def test_a_batch_of_none(name: str):
    """Nothing comes out, and a gradient of nothing comes back; two others refuse it."""
    op, shape = OPS[name]
    x = torch.rand(0, *shape[1:], requires_grad=True)
    output = op(x)
    assert output.shape[0] == 0
    (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    assert gradient.shape == x.shape


@pytest.mark.parametrize("name", OPS)
def test_gradients_survive_an_export(name: str):
    """The graph holds raw ops: what is exported can be trained further."""
    op, shape = OPS[name]
    x = torch.rand(shape)

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(0.9))

        def forward(self, x: Tensor) -> Tensor:
            return op(x * self.factor)

    module = Scaled()
    exported = torch.export.export(module, (x,)).module()
    found = [torch.autograd.grad(one(x).square().sum(), one.factor) for one in (module, exported)]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", OPS)
def test_gradients_of_mapped_calls(name: str):
    op, shape = OPS[name]
    x = torch.rand(2, *shape, dtype=torch.float64, requires_grad=True)
    mapped, expected = torch.vmap(op)(x), torch.stack([op(one) for one in x])
    torch.testing.assert_close(mapped, expected, rtol=0, atol=0)
    gradients = [torch.autograd.grad(one.square().sum(), x)[0] for one in (mapped, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", OPS)
def test_transforms_of_functions(name: str):
    op, shape = OPS[name]
    x = torch.rand(2, *shape, dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        return op(x).square().sum()

    expected = torch.stack([torch.autograd.grad(loss(one), one)[0] for one in x])
    gradient = torch.func.grad(loss)
    actual = torch.stack([gradient(one.detach()) for one in x])
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.vmap(gradient)(x.detach()), expected, rtol=1e-12, atol=1e-12)


def test_a_transform_of_a_transform():
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return ops.squared_difference_map(x, x.flip(3)).square().sum()

    expected = torch.autograd.functional.hessian(loss, x)
    actual = torch.func.jacrev(torch.func.jacrev(loss))(x)
    torch.testing.assert_close(actual, expected)

    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(torch.func.grad(loss), (x,), (x,))

    def hard(x: Tensor) -> Tensor:
        return torch.func.grad(lambda x: ops.hard_feature_loss(x, x.flip(3)))(x).square().sum()

    with pytest.raises(RuntimeError, match="can be taken once, not twice"):
        torch.func.grad(hard)(x)


@pytest.mark.parametrize("name", OPS)
def test_gradients_of_compiled_calls(name: str):
    op, shape = OPS[name]
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(op, backend="aot_eager", fullgraph=True)
    outputs = [compiled(x), op(x)]
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    gradients = [torch.autograd.grad(one.square().sum(), x)[0] for one in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


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
