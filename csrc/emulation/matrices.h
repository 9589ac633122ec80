// The matrix instructions of a warp; cuda/device.h states their layouts.
#pragma once

#include <cstdint>

#include "cuda/launch_shape.h"
#include "efficientad/scalar.h"
#include "emulation/fault.h"
#include "emulation/operands.h"

namespace efficientad::emulation {

inline constexpr int kMatrixRowBytes = 16;

// Called by every lane of a warp: with the place of one matrix row in shared memory.
cuda::Vector<std::uint32_t, 4> load_matrices(std::size_t row, Site site);

void multiply_add(MatrixType type, float (&sum)[4], const cuda::Vector<std::uint32_t, 4>& a,
                  std::uint32_t b0, std::uint32_t b1, Site site);

}  // namespace efficientad::emulation
