from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from efficientad_ext import _C, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# (shape of the input, first channel, channels, kernel)
CASES = [
    ((1, 27, 27, 128), 64, 64, 4),
    ((3, 9, 12, 192), 0, 192, 3),
    ((2, 5, 4, 64), 0, 64, 2),
    ((1, 4, 4, 320), 64, 128, 4),
    ((2, 31, 1, 64), 0, 64, 1),
]


def random_input(case, dtype, device):
    """Activations behind a ReLU; channels that are not read are NaN."""
    shape, first, channels, _ = case
    x = torch.full(shape, float("nan"))
    x[..., first : first + channels] = torch.randn(*shape[:3], channels).relu()
    return x.to(dtype).to(device)


def run(kernels, x, first, channels, kernel):
    backend = kernels("window_means")
    output = torch.empty(
        (x.shape[0], kernel, kernel, channels),
        dtype=torch.promote_types(x.dtype, torch.float32),
        device=x.device,
    )
    where = (first, channels, kernel)
    workspace = backend.workspace("window_means", x.device, x, *where)
    backend.run("window_means", x.device, x, *where, output, workspace)
    return output


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(backend, kernels, dtype, case, assert_matches):
    x = random_input(case, dtype, backend)
    actual = run(kernels, x, *case[1:])
    # Never rounded to the short type.
    assert_matches(actual, reference.window_means(x.double(), *case[1:]), actual.dtype)


def test_mean_over_space_of_a_convolution(backend, kernels, assert_matches):
    """What the means are for: the convolution's weights applied to them."""
    x = random_input(((2, 10, 9, 64), 0, 64, 3), torch.float64, backend)
    weight = torch.randn(5, 64, 3, 3, dtype=torch.float64, device=backend)
    expected = functional.conv2d(x.permute(0, 3, 1, 2), weight).mean((2, 3))
    means = run(kernels, x, 0, 64, 3)
    actual = torch.einsum("nsrc,ocrs->no", means, weight)
    # Weights of both signs: the terms may be larger than their sum.
    terms = torch.einsum("nsrc,ocrs->no", means, weight.abs())
    assert_matches(actual, expected, torch.float64, intermediate=float(terms.max()))


def test_repeatable(backend, kernels):
    x = random_input(CASES[0], torch.float32, backend)
    assert torch.equal(run(kernels, x, *CASES[0][1:]), run(kernels, x, *CASES[0][1:]))


def test_nan_passes(backend, kernels, dtype):
    case = CASES[1]
    x = random_input(case, dtype, backend)
    x[1, 0, 4, 100] = float("nan")
    actual = run(kernels, x, *case[1:])
    expected = reference.window_means(x, *case[1:])
    assert torch.equal(actual.isnan(), expected.isnan())
    # Only the first row of taps sees the first row of the image.
    assert actual[1, :, :, 100].isnan().tolist() == [[True, False, False]] * 3


def test_empty(backend, kernels):
    x = torch.empty(0, 5, 5, 64, device=backend)
    assert run(kernels, x, 0, 64, 3).numel() == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"x": torch.randn(5, 6, 128)}, "expected an input"),
        ({"x": torch.randn(1, 128, 5, 6).permute(0, 2, 3, 1)}, "contiguous"),
        ({"first_channel": 65}, "64 channels of the input"),
        ({"first_channel": -1}, "64 channels of the input"),
        ({"channels": 32}, "64 channels of the input"),
        ({"kernel": 5}, "the kernel is not 1 to 4"),
        ({"x": torch.randn(1, 2, 6, 128)}, "smaller than"),
        ({"output": torch.empty(1, 3, 3, 128)}, "the output does not fit"),
        ({"output": torch.empty(1, 3, 3, 64).half()}, "the output does not fit"),
    ],
)
def test_what_would_leave_a_tensor_is_refused(changes, sentence):
    arguments = {
        "x": torch.randn(1, 5, 6, 128),
        "first_channel": 64,
        "channels": 64,
        "kernel": 3,
        "output": torch.empty(1, 3, 3, 64),
        "workspace": None,
    }
    _C.cpu.window_means(1, *arguments.values())
    with pytest.raises(ValueError, match=sentence):
        _C.cpu.window_means(1, *{**arguments, **changes}.values())
