from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

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

from efficientad_ext import _C, _emulation
from efficientad_ext.reference.segment_convolution import pack_weights

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_matches_reference(convolutions, case, assert_matches):
    segments = random_segments(case, convolutions.operand)
    bias = random_bias(convolutions, case)
    actual = run(convolutions, case, segments, bias)
    expected = expected_of(case, segments, bias)
    if case.epilogue == "squared_difference":
        # Never rounded to the short type. A tensor core cuts off what it adds, where others round:
        # up to 2^-23 of the sum for each 8 of its products, of which there are up to 2624 here.
        # That shows twice in a square.
        assert_matches(actual, expected, convolutions.summed, factor=8)
    else:
        # One rounding of the result. Where a resampled input is rounded, too, its errors are as
        # small and independent, so that their sum is smaller. Float32 shows the roundings of the
        # sum itself: up to 1,024 products one after the other, 2^-25 of the sum so far each.
        factor = 2 if convolutions.stored == torch.float32 else 1
        assert_matches(actual, expected, convolutions.stored, factor)


@pytest.mark.parametrize(
    "case",
    [
        # A row is a quarter of a megabyte and more: blocks have the fewest rows that there can be,
        # where a thread makes ready as many rows of the input as half a cache of it holds.
        pytest.param(Case((Shape((12, 131), 2, 1024, 0, 1024),), (11, 130)), id="wide rows"),
        # The last 8 pixels of a row are a tile of 8 rows where a reduction is as long.
        pytest.param(Case((Shape((8, 59), 4, 128, 0, 128),), (5, 56)), id="half a tile"),
    ],
)
def test_long_reductions(convolutions, case, assert_matches):
    """The CPU's kernels choose blocks and tiles by how much there is to add up."""
    if convolutions.on_a_gpu:
        pytest.skip("the CPU's kernels alone have such blocks")
    segments = random_segments(case, convolutions.operand)
    bias = random_bias(convolutions, case)
    actual = run(convolutions, case, segments, bias)
    # Four times as many products as in the other cases.
    factor = 4 if convolutions.stored == torch.float32 else 1
    assert_matches(actual, expected_of(case, segments, bias), convolutions.stored, factor)


@pytest.mark.parametrize("epilogue", ["relu_pool", "squared_difference"])
@pytest.mark.parametrize(
    "segments",
    [
        pytest.param((Shape((4, 6), 2),), id="one kernel"),
        # With one tap, the slots of the input are others in number.
        pytest.param((Shape((4, 6), 2), Shape((3, 5), 1)), id="two kernels"),
    ],
)
def test_blocks_go_from_tile_to_tile(convolutions, segments, epilogue, assert_matches):
    """As an image is a tile of any size, there are enough for the largest ones and two turns."""
    if not convolutions.on_a_gpu:
        pytest.skip("GPUs alone have blocks")
    images = 2 * convolutions.multiprocessors + 1
    case = Case(segments, (3, 5), 128, epilogue=epilogue, batch=images)
    numbers = random_segments(case, convolutions.operand)
    bias = random_bias(convolutions, case)
    actual = run(convolutions, case, numbers, bias)
    squared = epilogue == "squared_difference"
    stored, factor = (convolutions.summed, 8) if squared else (convolutions.stored, 1)
    assert_matches(actual, expected_of(case, numbers, bias), stored, factor)


def test_no_image(convolutions):
    if convolutions.on_a_gpu:
        pytest.skip("an engine on a GPU is never asked for none")
    case = Case((Shape((8, 10), 4),), (5, 7), batch=0)
    segments = random_segments(case, convolutions.operand)
    output = run(convolutions, case, segments, random_bias(convolutions, case))
    assert tuple(output.shape) == (0, 5, 7, 64)


@pytest.mark.parametrize("epilogue", ["store", "squared_difference"])
def test_numbers_with_more_digits_than_tf32(convolutions, epilogue, assert_matches):
    case = Case((Shape((8, 9), 3),), (6, 7), 128, epilogue=epilogue)
    segments = random_segments(case, lambda x: x.to(convolutions.dtype).to(convolutions.device))
    bias = random_bias(convolutions, case)
    actual = run(convolutions, case, segments, bias)
    # A tensor core cuts factors off after 10 bits of fraction: that makes each product smaller by
    # 0.7 * 2^-10 on average, so also their sum, and the mean of squares by twice as much.
    assert_matches(actual, expected_of(case, segments, bias), convolutions.stored, factor=2)


# A block of the warpgroups' kernel and one of the small tiles', which are the autoencoder's, share
# a multiprocessor's 228 KiB, of which 1 KiB for each is the system's.
@pytest.mark.parametrize(
    ("kind", "capability", "case"),
    [
        ("warpgroups", 90, Case((Shape((24, 24), 4),), (21, 21), 256)),
        ("warpgroups", 90, Case((Shape((6, 6), 4),), (3, 3), 128)),
        ("warpgroups", 90, CASES["two segments of one tap"]),
        ("large tiles", 86, Case((Shape((24, 24), 4),), (21, 21), 256)),
        ("large tiles", 86, CASES["two segments of one tap"]),
        ("small tiles", 90, CASES["stride 2"]),
        ("small tiles", 90, CASES["upsampled"]),
    ],
)
def test_shared_memory_stays_within_its_budget(kind, capability, case):
    segments = random_segments(case, torch.Tensor.half)
    output = torch.empty(case.output_shape)
    _emulation.set_compute_capability(capability)
    try:
        _emulation.take_largest_shared_bytes()
        _emulation.segment_convolution(
            1,
            [python_segment(segment) for segment in segments],
            pack_weights([segment.weight for segment in segments]),
            torch.randn(case.outputs),
            case.size,
            case.outputs,
            case.epilogue,
            output if case.epilogue == "squared_difference" else output.half(),
        )
    finally:
        _emulation.set_compute_capability(90)
    budgets = json.loads(Path(__file__).with_name("cuda_budgets.json").read_text())["shared_bytes"]
    assert 0 < _emulation.take_largest_shared_bytes() <= budgets[kind]
    assert budgets["warpgroups"] + budgets["small tiles"] + 2 * 1024 <= 228 * 1024


def one_tap(x):
    """A call on an emulated GPU: a convolution of one tap over float16 (1, 4, 4, 64)."""
    return (
        1,
        [(x, 0, 64, 1, 1, 0, None)],
        torch.randn(64, 64).half(),
        torch.randn(64),
        (4, 4),
        64,
        "store",
        torch.empty(1, 4, 4, 64).half(),
    )


def test_gpu_without_tensor_cores():
    _emulation.set_compute_capability(75)
    try:
        with pytest.raises(RuntimeError, match=r"compute capability is below 8\.0"):
            _emulation.segment_convolution(*one_tap(torch.randn(1, 4, 4, 64).half()))
    finally:
        _emulation.set_compute_capability(90)


def test_misaligned_tensor():
    misaligned = torch.randn(4 * 4 * 64 + 1).half()[1:].view(1, 4, 4, 64)
    with pytest.raises(RuntimeError, match="multiple of 16 bytes"):
        _emulation.segment_convolution(*one_tap(misaligned))


def test_weights_are_packed_by_blocks_of_a_pixel():
    kernels, channels = (2, 3), (128, 64)
    for dtype, block in ((torch.float64, 16), (torch.float32, 32), (torch.bfloat16, 64)):
        weights = [
            torch.randn(64, count, kernel, kernel).to(dtype)
            for count, kernel in zip(channels, kernels, strict=True)
        ]
        packed = pack_weights(weights)
        assert packed.shape == (64, 128 * 4 + 64 * 9)
        start = 0
        for weight, count, kernel in zip(weights, channels, kernels, strict=True):
            for channel, column, row in (
                (0, 0, 0),
                (1, 0, 1),
                (block - 1, 1, 0),
                (count - 1, 1, 1),
            ):
                tap = (channel // block * kernel + column) * kernel + row
                at = start + tap * block + channel % block
                assert torch.equal(packed[:, at], weight[:, channel, row, column])
            start += count * kernel**2


def test_repeatable(convolutions):
    """The same bits every time, in whatever order threads or blocks run."""
    case = CASES["two kernels"]
    segments = random_segments(case, convolutions.operand)
    bias = random_bias(convolutions, case)
    first = run(convolutions, case, segments, bias)
    assert torch.equal(run(convolutions, case, segments, bias), first)


def test_several_threads(convolutions):
    """One kernel at once with blocks that take more of the shared memory and less."""
    cases = [Case((Shape((6, 7), kernel),), (4, 5), 128) for kernel in (1, 3)]
    calls = []
    for case in cases:
        segments = random_segments(case, convolutions.operand)
        calls.append((case, segments, random_bias(convolutions, case)))
    alone = [run(convolutions, *call) for call in calls]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda call: run(convolutions, *call), 4 * calls))
    assert all(map(torch.equal, together, 4 * alone))


@pytest.mark.parametrize("epilogue", ["store", "relu", "relu_pool", "squared_difference"])
def test_nan_passes(convolutions, epilogue):
    case = Case((Shape((6, 7), 3),), (4, 5), epilogue=epilogue, batch=2)
    segments = random_segments(case, convolutions.operand)
    segments[0].input[1, 2, 3, 17] = float("nan")
    bias = random_bias(convolutions, case)
    actual = run(convolutions, case, segments, bias)
    expected = expected_of(case, segments, bias)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert actual.isnan().any()


@pytest.mark.parametrize("case", [replace(CASES["padding"], batch=0)], ids=["no image"])
def test_empty(convolutions, case):
    segments = random_segments(case, convolutions.operand)
    assert run(convolutions, case, segments, random_bias(convolutions, case)).numel() == 0


def call(**changes):
    """A call of the CPU kernel on two segments of a 3x3 grid, with some arguments exchanged."""
    arguments = {
        "segments": [(torch.randn(2, 5, 5, 128), 64, 64, 3, 1, 0, None)] * 2,
        "weight": torch.randn(128, 2 * 64 * 9),
        "bias": torch.randn(128),
        "size": (3, 3),
        "second_group": 128,
        "epilogue": "relu",
        "output": torch.empty(2, 3, 3, 128),
    }
    _C.cpu.segment_convolution(1, *{**arguments, **changes}.values())


def segment(**changes):
    arguments = {
        "input": torch.randn(2, 5, 5, 128),
        "first_channel": 64,
        "channels": 64,
        "kernel": 3,
        "stride": 1,
        "padding": 0,
        "resampling": None,
    }
    return {"segments": [tuple({**arguments, **changes}.values())] * 2}


AXIS = (0.5, 0.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"segments": []}, "1 or 2 segments"),
        (segment(first_channel=65), "64 channels of its input"),
        (segment(first_channel=-64), "64 channels of its input"),
        (segment(channels=32), "64 channels of its input"),
        ({"second_group": 64}, "64 channels of its input"),
        ({"second_group": 100}, "second group"),
        ({"second_group": 0}, "second group"),
        (segment(kernel=5), "kernel is not 1 to 4"),
        (segment(stride=3), "stride is not 1 or 2"),
        (segment(padding=3), "padding is not less"),
        (segment(padding=-1), "padding is not less"),
        (segment(stride=2, resampling=(6, 6, AXIS, AXIS)), "resampled segment's stride"),
        (segment(resampling=(0, 6, AXIS, AXIS)), "no pixels"),
        (segment(resampling=(6, 6, AXIS, (float("nan"), 0.0))), "not finite"),
        (segment(input=torch.randn(2, 5, 5, 128).half()), "differ in element type or batch"),
        (segment(input=torch.randn(5, 5, 128)), "expected segments"),
        (segment(input=torch.randn(2, 128, 5, 5).permute(0, 2, 3, 1)), "contiguous"),
        ({"weight": torch.randn(128, 64 * 9)}, "the weight does not fit"),
        ({"weight": torch.randn(100, 2 * 64 * 9)}, "multiple of 64"),
        ({"bias": torch.randn(64)}, "the bias does not fit"),
        ({"bias": torch.randn(128).double()}, "the bias does not fit"),
        ({"size": (3, 4)}, "the output does not fit"),
        ({"size": (-3, -3)}, "size is negative"),
        ({"epilogue": "sum"}, "the epilogue is none of"),
        ({"epilogue": "relu_pool"}, "the output does not fit"),
        ({"epilogue": "squared_difference"}, "the output does not fit"),
        ({"output": torch.empty(2, 3, 3, 128).half()}, "the output does not fit"),
        ({"output": torch.empty(2, 3, 3, 256)[..., ::2]}, "contiguous"),
    ],
)
def test_what_would_leave_a_tensor_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(**changes)


def test_the_call_that_is_changed_is_right():
    call()
    call(**segment(resampling=(6, 6, AXIS, AXIS)))
