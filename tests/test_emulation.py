"""The emulated GPU finds the faults it is there to find."""

from __future__ import annotations

import pytest

from efficientad_ext import _emulation


def test_sound_kernel_passes():
    for seed in range(5):
        _emulation.set_seed(seed)
        _emulation.self_test("none")


@pytest.mark.parametrize(
    "fault",
    [
        "missing_barrier",
        "missing_warp_barrier",
        "shared_out_of_bounds",
        "shared_uninitialized",
        "global_out_of_bounds",
        "global_misaligned",
        "divergent_barrier",
        "skipped_barrier",
        "early_exit",
        "divergent_shuffle",
    ],
)
def test_planted_fault_is_found(fault):
    for seed in range(5):
        _emulation.set_seed(seed)
        with pytest.raises(RuntimeError) as found:
            _emulation.self_test(fault)
        assert "knows no such fault" not in str(found.value)
        assert "wrong result" not in str(found.value)
