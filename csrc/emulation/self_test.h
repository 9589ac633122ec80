// Kernels with planted faults, to show that the emulation finds them.
#pragma once

#include "efficientad/execution.h"

namespace efficientad::cuda {

// Runs a small kernel with the planted fault and returns the status of its launch. `fault` is one
// of "none", "missing_barrier", "missing_warp_barrier", "shared_out_of_bounds",
// "shared_uninitialized", "global_out_of_bounds", "global_misaligned", "divergent_barrier",
// "skipped_barrier", "early_exit" and "divergent_shuffle".
Status emulation_self_test(const char* fault);

}  // namespace efficientad::cuda
