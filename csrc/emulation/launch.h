// Launching kernels on the emulated GPU.
#pragma once

#include <cstdint>
#include <functional>

#include "cuda/launch_shape.h"
#include "efficientad/execution.h"

namespace efficientad::emulation {

// The orders in which blocks and threads run follow from the seed and the number of launches since.
// Results must not depend on it.
void set_seed(std::uint64_t seed);

// The most shared memory that a block was launched with since this was asked last.
std::size_t take_largest_shared_bytes();

// The emulated GPU's compute capability (90 at first) decides how much shared memory a block gets.
// Throws std::invalid_argument below 70.
void set_compute_capability(int compute_capability);
cuda::DeviceProperties device_properties();

// Runs the blocks one after the other; a fault, or a shape no GPU accepts, is the status.
Status run_grid(const cuda::LaunchShape& shape, const std::function<void()>& kernel);

}  // namespace efficientad::emulation
