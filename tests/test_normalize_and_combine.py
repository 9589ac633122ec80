from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference
from efficientad_ext._geometry import resampling_axes

pytestmark = pytest.mark.usefixtures("poisoned_memory")

QUANTILES = (0.1, 0.7, -0.2, 0.5)


def maps(shape, dtype, device):
    return tuple(torch.randn(2, *shape).to(dtype).to(device))


@pytest.mark.parametrize(
    ("grid", "size"),
    [((56, 56), (256, 256)), ((24, 33), (130, 167)), ((1, 1), (33, 36)), ((7, 5), (9, 4))],
)
def test_matches_reference(backend, dtype, grid, size, assert_matches):
    local_map, global_map = maps((3, 1, *grid), dtype, backend)
    for input_size in (None, (4 * grid[0] + 29, 4 * grid[1] + 30)):
        expected, expected_score = reference.normalize_and_combine(
            local_map.double(), global_map.double(), QUANTILES, size, input_size=input_size
        )
        actual, score = ops.normalize_and_combine(
            local_map, global_map, QUANTILES, size, input_size=input_size
        )
        assert actual.dtype == dtype
        assert_matches(actual, expected, dtype)
        assert_matches(score, expected_score, score.dtype)


@pytest.mark.parametrize("planes", [2, 6])
def test_maps_in_planes(backend, kernels, dtype, planes, assert_matches):
    """Maps that are sums of planes, as the engine's squared differences are."""
    grid, size = (11, 9), (65, 57)
    local_planes, global_planes = maps((planes, 3, *grid), dtype, backend)
    output = torch.empty(3, 1, *size, dtype=dtype, device=backend)
    score = torch.empty(3, device=backend).to(torch.promote_types(dtype, torch.float32))
    kernels("normalize_and_combine").run(
        "normalize_and_combine",
        backend,
        local_planes,
        global_planes,
        QUANTILES[:2],
        QUANTILES[2:],
        *resampling_axes(grid, size, "pixel_exact", size),
        output,
        score,
    )
    expected, expected_score = reference.normalize_and_combine(
        *(x.double().sum(0).unsqueeze(1) for x in (local_planes, global_planes)), QUANTILES, size
    )
    assert_matches(output, expected, dtype)
    assert_matches(score, expected_score, score.dtype)


def test_score_is_the_maximum_of_the_map(backend):
    local_map, global_map = maps((4, 1, 24, 24), torch.float32, backend)
    combined, score = ops.normalize_and_combine(local_map, global_map, QUANTILES, (128, 128))
    assert torch.equal(combined.amax(dim=(1, 2, 3)), score)


def test_calibration_maps_quantiles_to_0_and_a_tenth(backend):
    for value, expected in ((2.0, 0.0), (5.0, 0.1), (8.0, 0.2), (-1.0, -0.1)):
        grid = torch.full((1, 1, 3, 3), value, device=backend)
        _, score = ops.normalize_and_combine(grid, grid, (2.0, 5.0, 2.0, 5.0), (45, 45))
        assert score.item() == pytest.approx(expected, abs=1e-7)


def test_quantiles_as_a_tensor(backend):
    local_map, global_map = maps((1, 1, 5, 5), torch.float32, backend)
    as_tensor = torch.tensor(QUANTILES, dtype=torch.float64)
    assert torch.equal(
        ops.normalize_and_combine(local_map, global_map, as_tensor, (49, 49))[0],
        ops.normalize_and_combine(local_map, global_map, QUANTILES, (49, 49))[0],
    )


def test_large_offset_keeps_its_precision(backend, assert_matches):
    """Maps far from zero and close to their quantiles."""
    local_map, global_map = (1000 + x for x in maps((1, 1, 9, 9), torch.float32, backend))
    quantiles = (1000.0, 1001.0, 999.5, 1000.5)
    expected, _ = reference.normalize_and_combine(
        local_map.double(), global_map.double(), quantiles, (65, 65)
    )
    actual, _ = ops.normalize_and_combine(local_map, global_map, quantiles, (65, 65))
    assert_matches(actual, expected, torch.float32)


def test_nan_shows_in_the_score(backend):
    local_map, global_map = maps((3, 1, 9, 9), torch.float32, backend)
    global_map[1, 0, 8, 8] = float("nan")
    _, score = ops.normalize_and_combine(local_map, global_map, QUANTILES, (65, 65))
    assert score.isnan().tolist() == [False, True, False]


def test_non_contiguous_maps(backend):
    wide = torch.randn(2, 2, 9, 18, device=backend)
    local_map, global_map = wide[:, :1, :, ::2], wide.transpose(2, 3)[:, 1:, :9, :9]
    actual, score = ops.normalize_and_combine(local_map, global_map, QUANTILES, (65, 65))
    expected, expected_score = reference.normalize_and_combine(
        local_map, global_map, QUANTILES, (65, 65)
    )
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(score, expected_score)


def test_empty_batch(backend):
    empty = torch.zeros(0, 1, 4, 4, device=backend)
    combined, score = ops.normalize_and_combine(empty, empty, QUANTILES, (45, 45))
    assert combined.shape == (0, 1, 45, 45)
    assert score.shape == (0,)


def test_gradient(backend):
    local_map, global_map = (x.requires_grad_() for x in maps((2, 1, 4, 5), torch.float64, backend))
    assert torch.autograd.gradcheck(
        lambda a, b: ops.normalize_and_combine(a, b, QUANTILES, (46, 51), input_size=(45, 49)),
        (local_map, global_map),
        fast_mode=True,
    )


def test_fake_tensors():
    local_map, global_map = maps((2, 1, 4, 5), torch.float32, "cpu")
    local_map.requires_grad_()
    torch.library.opcheck(
        torch.ops.efficientad_ext.normalize_and_combine.default,
        (local_map, global_map, list(QUANTILES), 20, 21, [0.25, -4.0], [0.25, -4.0]),
    )


def test_compiled_once_for_all_quantiles():
    local_map, global_map = maps((1, 1, 5, 5), torch.float32, "cpu")
    compiled = torch.compile(
        lambda quantiles: ops.normalize_and_combine(local_map, global_map, quantiles, (49, 49))[0],
        backend="aot_eager",
        fullgraph=True,
        dynamic=True,
    )
    for end in (0.7, 0.8, 0.95):
        quantiles = (0.1, end, -0.2, 0.5)
        expected, _ = ops.normalize_and_combine(local_map, global_map, quantiles, (49, 49))
        assert torch.equal(compiled(quantiles), expected)


GRID = torch.zeros(1, 1, 3, 3)


@pytest.mark.parametrize(
    ("local_map", "quantiles", "sentence"),
    [
        (torch.zeros(1, 2, 3, 3), QUANTILES, "same shape"),
        (GRID, (1.0, 1.0, 0.0, 1.0), "the local map's quantiles are 1.0 and 1.0"),
        (GRID, (0.0, 1.0, 2.0, 1.0), "the global map's quantiles are 2.0 and 1.0"),
        (GRID, (0.0, 1.0, 0.0), "expected four numbers"),
        (GRID, (0.0, float("nan"), 0.0, 1.0), "expected four numbers"),
    ],
)
def test_bad_input(local_map, quantiles, sentence):
    with pytest.raises(ValueError, match=sentence):
        ops.normalize_and_combine(local_map, GRID, quantiles, (45, 45))
