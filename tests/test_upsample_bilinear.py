from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SIZES = [
    ((8, 8), (32, 32)),
    ((5, 7), (17, 40)),
    ((1, 1), (4, 3)),
    ((9, 1), (4, 5)),
    ((16, 20), (7, 6)),
]


@pytest.mark.parametrize(("grid", "size"), SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 5, 33])
def test_half_pixel_matches_torch(backend, dtype, in_layout, channels, grid, size, assert_matches):
    x = in_layout(torch.randn(2, channels, *grid).to(dtype)).to(backend)
    expected = functional.interpolate(x.double(), size=size, mode="bilinear", align_corners=False)
    actual = ops.upsample_bilinear(x, size)
    assert actual.dtype == dtype
    assert_matches(actual, expected, dtype)


@pytest.mark.parametrize(("grid", "size"), SIZES, ids=str)
def test_pixel_exact_matches_reference(backend, dtype, in_layout, grid, size, assert_matches):
    x = in_layout(torch.randn(2, 3, *grid).to(dtype)).to(backend)
    for input_size in (None, (65, 80)):
        options = {"alignment": "pixel_exact", "input_size": input_size}
        expected = reference.upsample_bilinear(x.double(), size, **options)
        assert_matches(ops.upsample_bilinear(x, size, **options), expected, dtype)


def test_features_lie_on_their_pixels(backend):
    """Feature (i, j) is found again at pixel (16 + 4i, 16 + 4j), and the border keeps the edge."""
    x = torch.randn(1, 1, 56, 57, device=backend)
    y = ops.upsample_bilinear(x, (256, 260), alignment="pixel_exact")
    assert torch.equal(y[..., 16 : 16 + 4 * 56 : 4, 16 : 16 + 4 * 57 : 4], x)
    assert torch.equal(y[..., :16, 16], x[..., :1, 0].expand(-1, -1, 16))
    assert torch.equal(y[..., 236:, -1], x[..., -1:, -1].expand(-1, -1, 20))


def test_keeps_the_memory_format(backend):
    x = torch.randn(2, 6, 4, 4, device=backend).contiguous(memory_format=torch.channels_last)
    assert ops.upsample_bilinear(x, (9, 9)).is_contiguous(memory_format=torch.channels_last)
    assert ops.upsample_bilinear(x.contiguous(), (9, 9)).is_contiguous()


@pytest.mark.parametrize("alignment", ["half_pixel", "pixel_exact"])
@pytest.mark.parametrize(("grid", "size"), SIZES, ids=str)
def test_gradient(backend, in_layout, grid, size, alignment):
    x = in_layout(torch.randn(2, 3, *grid, dtype=torch.float64)).to(backend).detach()
    x.requires_grad_()

    def function(x):
        return ops.upsample_bilinear(x, size, alignment=alignment)

    assert torch.autograd.gradcheck(function, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x,), fast_mode=True)


@pytest.mark.parametrize(("grid", "size"), [*SIZES, ((6, 7), (25, 18))], ids=str)
def test_gradient_matches_torch(backend, dtype, in_layout, grid, size, assert_matches):
    x = in_layout(torch.randn(2, 19, *grid).to(dtype)).to(backend)
    weight = torch.randn(2, 19, *size).to(dtype).to(backend)
    ours, theirs = x.detach().requires_grad_(), x.detach().double().requires_grad_()
    (ops.upsample_bilinear(ours, size) * weight).sum().backward()
    (functional.interpolate(theirs, size=size, mode="bilinear") * weight.double()).sum().backward()
    assert_matches(ours.grad, theirs.grad, dtype)


def test_empty(backend, in_layout):
    x = in_layout(torch.randn(0, 3, 4, 4, device=backend)).requires_grad_()
    output = ops.upsample_bilinear(x, (8, 9))
    assert output.shape == (0, 3, 8, 9)
    output.sum().backward()
    assert x.grad.shape == x.shape


def test_fake_tensors(in_layout):
    x = in_layout(torch.randn(2, 3, 4, 5)).requires_grad_()
    for op in ("upsample_bilinear", "upsample_bilinear_gradient"):
        torch.library.opcheck(
            getattr(torch.ops.efficientad_ext, op).default,
            (x, 8, 9, [0.5, 0.0], [0.5, 0.25]),
        )


@pytest.mark.parametrize(
    ("x", "size", "options", "error", "sentence"),
    [
        (torch.zeros(1, 1, 0, 3), (4, 4), {}, ValueError, "without any pixel"),
        (torch.zeros(1, 1, 3, 3), (0, 4), {}, ValueError, "positive height and width"),
        (torch.zeros(1, 1, 3, 3), 4, {}, ValueError, r"expected \(height, width\)"),
        (torch.zeros(1, 1, 3, 3), (4, 4), {"alignment": "corners"}, ValueError, "half_pixel"),
        (torch.zeros(1, 1, 3, 3), (4, 4), {"input_size": (8, 8)}, ValueError, "pixel_exact"),
        (torch.zeros(1, 3, 3), (4, 4), {}, ValueError, r"expected \(N, C, H, W\)"),
    ],
)
def test_bad_input(x, size, options, error, sentence):
    with pytest.raises(error, match=sentence):
        ops.upsample_bilinear(x, size, **options)
