"""The emulated GPU runs sound kernels right, and finds the faults it is there to find."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from efficientad_ext import _emulation

# Each fault with words of the messages that name it; which of them comes first depends on the order
# in which threads and copies run.
FAULTS = {
    "launches": {
        "empty_grid": "the grid has a dimension",
        "partial_warp": "whole warps",
        "too_many_threads": "whole warps",
        "too_much_shared_memory": "more shared memory than the GPU has",
        "map_misaligned_data": "begin at a multiple of 16 bytes",
        "map_wide_box": "128 bytes wide",
        "map_tall_box": "1 to 256 elements",
        "map_odd_stride": "strides must be multiples of 16 bytes",
        "map_inner_stride": "must have stride 1",
        "map_empty_dimension": "dimensions must have",
        "map_rank": "2 to 5 dimensions",
    },
    "threads": {
        "missing_barrier": "data race|read at .* before it is written",
        "missing_warp_barrier": "data race",
        "shared_out_of_bounds": "shared memory is accessed out of bounds",
        "shared_uninitialized": "read at .* before it is written",
        "global_out_of_bounds": "global memory is accessed out of bounds",
        "global_misaligned": "global memory is accessed at a misaligned address",
        "divergent_barrier": "divergent barrier",
        "skipped_barrier": "divergent barrier|data race|read at .* before it is written",
        "early_exit": "waits forever for the barrier",
        "divergent_shuffle": "divergent warp operation",
    },
    "matrices": {
        "missing_copy_wait": "read at .* while the asynchronous copy .* is not waited for",
        "late_commit": "read at .* while the asynchronous copy .* is not waited for",
        "missing_barrier_after_wait": "data race in shared memory: read"
        "|read at .* before it is written",
        "stage_overwritten": "data race",
        "copy_misaligned": "shared memory is accessed at a misaligned address",
        "copy_out_of_bounds": "shared memory is accessed out of bounds",
        "source_out_of_bounds": "global memory is accessed out of bounds",
        "copies_pending_at_end": "ends without waiting for its asynchronous copy",
        "matrix_misaligned": "shared memory is accessed at a misaligned address",
        "divergent_multiply_add": "divergent warp operation",
    },
    "messages": {
        "stored_after_arrival": "data race|read at .* before it is written",
        "silent_lane": "data race|read at .* before it is written",
        "missing_wait": "data race|read at .* before it is written",
        "one_lane_waits": "data race|read at .* before it is written",
        "answered_early": "data race",
        "counted_while_read": "data race",
    },
    "tiles": {
        "missing_init_fence": "without transaction_init_fence",
        "missing_init_barrier": "before it is initialised|data race",
        "expects_too_much": "waits forever for parity . of the transaction barrier",
        "expects_too_little": "data race|waits forever for parity . of the transaction barrier",
        "double_arrival": "more threads arrive",
        "missing_transaction_wait": "data race|read at .* before it is written",
        "wrong_parity": "waits forever for parity . of the transaction barrier",
        "missing_release": "waits forever for parity . of the transaction barrier",
        "released_early": "data race",
        "released_by_one_warp": "data race",
        "missing_warpgroup_fence": "without a warpgroup_fence",
        "missing_warpgroup_wait": "ends without waiting for the warpgroup's multiplication",
        "divergent_warpgroup": "divergent warpgroup",
        "sums_not_fenced": "wrong result",
        "sums_written_unfenced": "without warpgroup_fence_sums",
        "tile_misaligned": "shared memory is accessed at a misaligned address",
        "tile_out_of_bounds": "shared memory is accessed out of bounds",
        "operand_misaligned": "shared memory is accessed at a misaligned address",
    },
}


@pytest.fixture(autouse=True)
def compute_capability() -> Iterator[None]:
    """Put the emulated GPU's compute capability back to 9.0 after each test."""
    yield
    _emulation.set_compute_capability(90)


@pytest.mark.parametrize("subject", FAULTS)
def test_sound_kernel_passes(subject: str):
    for seed in range(20):
        _emulation.set_seed(seed)
        _emulation.self_test(subject, "none")


@pytest.mark.parametrize(
    ("subject", "fault"), [(subject, fault) for subject in FAULTS for fault in FAULTS[subject]]
)
def test_planted_fault_is_found(subject: str, fault: str):
    for seed in range(10):
        _emulation.set_seed(seed)
        with pytest.raises(RuntimeError, match=FAULTS[subject][fault]):
            _emulation.self_test(subject, fault)


@pytest.mark.parametrize("compute_capability", [80, 86])
def test_smaller_gpu_is_emulated(compute_capability: int):
    _emulation.set_compute_capability(compute_capability)
    _emulation.self_test("matrices", "none")
    with pytest.raises(RuntimeError, match=r"compute capability is less than 9\.0"):
        _emulation.self_test("tiles", "none")
    with pytest.raises(RuntimeError, match="more shared memory than the GPU has"):
        _emulation.self_test("launches", "none")


def test_compute_capability_of_no_gpu_that_cuda_builds_for_is_refused():
    with pytest.raises(ValueError, match="70 or more"):
        _emulation.set_compute_capability(61)
