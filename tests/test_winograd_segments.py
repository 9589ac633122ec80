from __future__ import annotations

import pytest
import torch
from segments import (
    CASES,
    Case,
    Shape,
    expected_of,
    python_segment,
    random_bias,
    random_segments,
    run,
)

from efficientad_ext import _C
from efficientad_ext.reference.winograd_convolution import evaluation_matrix, weights_at_points

pytestmark = pytest.mark.usefixtures("poisoned_memory")

TILED = {
    name: case
    for name, case in CASES.items()
    if all(shape.stride == 1 for shape in case.segments)
    and max(shape.kernel for shape in case.segments) >= 3
} | {
    # A strip has 64 tiles, or one row of them where that is longer.
    "several strips, taps 4": Case((Shape((43, 40), 4),), (40, 37), 128, batch=2),
    "several strips, taps 3": Case((Shape((44, 81), 3),), (42, 79), 64, epilogue="store"),
    "a row longer than a strip": Case((Shape((11, 210), 4),), (8, 207), epilogue="relu_pool"),
    "several strips, pooled": Case(
        (Shape((44, 41), 4, 64, 0, 128),), (41, 38), 128, 64, "relu_pool", 2
    ),
    "taps 3, pooled": Case((Shape((13, 12), 3),), (11, 10), epilogue="relu_pool", batch=2),
    "several strips of squares": Case(
        (Shape((33, 35), 4, 128, 64, 256), Shape((30, 32), 3, padding=1)),
        (30, 32),
        128,
        epilogue="squared_difference",
        batch=2,
    ),
}


def calculated(winograd, case, segments, bias):
    return run(winograd, case, segments, bias, kernel="winograd_convolution")


@pytest.mark.parametrize("case", TILED.values(), ids=TILED.keys())
def test_matches_reference(winograd, case, assert_matches):
    segments = random_segments(case, winograd.operand)
    bias = random_bias(winograd, case)
    actual = calculated(winograd, case, segments, bias)
    # The transforms round what they make larger: up to 1.8 of 40 seeds, of the most a few roundings
    # make; and 3.9 where a single tap, which has all of a filter's weight, is extended by zeros.
    factor = 8 if min(shape.kernel for shape in case.segments) == 1 else 4
    assert_matches(actual, expected_of(case, segments, bias), winograd.dtype, factor)


def test_as_exact_as_the_convolution(winograd):
    """Fewer products a sum make up for what the transforms round."""
    case = Case((Shape((24, 24), 4, 256, 0, 256),), (21, 21), 64, epilogue="store")
    segments = random_segments(case, winograd.operand)
    bias = random_bias(winograd, case)
    expected = expected_of(case, segments, bias)
    errors = [
        (run(winograd, case, segments, bias, kernel) - expected).norm()
        for kernel in ("winograd_convolution", "segment_convolution")
    ]
    assert errors[0] <= 2 * errors[1]


def test_repeatable_with_any_number_of_threads(winograd):
    case = TILED["several strips of squares"]
    segments = random_segments(case, winograd.operand)
    bias = random_bias(winograd, case)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(calculated(winograd, case, segments, bias))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("epilogue", ["store", "relu", "relu_pool", "squared_difference"])
def test_nan_shows_in_its_tiles(winograd, epilogue):
    case = Case((Shape((12, 13), 4),), (9, 10), epilogue=epilogue, batch=2)
    segments = random_segments(case, winograd.operand)
    segments[0].input[1, 2, 3, 17] = float("nan")
    bias = random_bias(winograd, case)
    actual = calculated(winograd, case, segments, bias).isnan()
    expected = expected_of(case, segments, bias).isnan()
    assert expected.any()
    assert actual[expected].all()
    images = actual.movedim(0, 1) if epilogue == "squared_difference" else actual
    assert not images[0].any()
    assert not images[1].all()


def test_no_image(winograd):
    case = Case((Shape((7, 9), 3, padding=1),), (7, 9), batch=0)
    segments = random_segments(case, winograd.operand)
    assert calculated(winograd, case, segments, random_bias(winograd, case)).numel() == 0


def test_nothing_is_left_of_a_row_when_pooled(winograd):
    case = Case((Shape((6, 3), 3),), (4, 1), epilogue="relu_pool")
    segments = random_segments(case, winograd.operand)
    output = calculated(winograd, case, segments, random_bias(winograd, case))
    assert tuple(output.shape) == (1, 2, 0, 64)


def test_weights_are_values_of_polynomials():
    taps = torch.randn(4, dtype=torch.float64)
    values = evaluation_matrix(4) @ taps
    assert values[5] == taps[3]
    # Lagrange's weights: those of six points interpolate what has five coefficients.
    points = torch.tensor([0.0, 1.0, -1.0, 2.0, -0.5], dtype=torch.float64)
    for index, point in enumerate(points):
        others = torch.cat([points[:index], points[index + 1 :]])
        at_point = (taps * point ** torch.arange(4)).sum() / (point - others).prod()
        torch.testing.assert_close(values[index], at_point)


def call(**changes):
    """A call of the CPU kernel on two segments of a 3x3 grid, with some arguments exchanged."""
    case = Case((Shape((6, 6), 4), Shape((3, 3), 3, padding=1)), (3, 3))
    segments = random_segments(case, torch.Tensor.float)
    arguments = {
        "segments": [python_segment(segment) for segment in segments],
        "weight": weights_at_points([segment.weight for segment in segments]),
        "bias": torch.randn(64),
        "size": case.size,
        "second_group": 64,
        "epilogue": "store",
        "output": torch.empty(case.output_shape),
    }
    _C.cpu.winograd_convolution(1, *{**arguments, **changes}.values())


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"segments": [(torch.randn(1, 6, 6, 64), 0, 64, 4, 2, 0, None)]}, ValueError, "stride"),
        ({"segments": [(torch.randn(1, 6, 6, 64), 0, 64, 2, 1, 0, None)]}, ValueError, "3 or 4"),
        ({"weight": torch.randn(64, 36 * 64)}, ValueError, "the weight does not fit"),
        (
            {
                "segments": [(torch.randn(1, 6, 6, 64).half(), 0, 64, 4, 1, 0, None)],
                "weight": torch.randn(64, 36 * 64).half(),
                "output": torch.empty(1, 3, 3, 64).half(),
            },
            RuntimeError,
            "float32 or float64",
        ),
    ],
)
def test_what_it_is_not_for_is_refused(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        call(**changes)


def test_the_call_that_is_changed_is_right():
    call()
