// Convolutions over segments by fewer multiplications: Winograd's minimal filtering (Lavin and
// Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016).
//
// A tile of m x m outputs, its 6 x 6 inputs and the filter are polynomials, multiplied by way of
// their values at six points along either axis. With taps r and m = 7 - r, per channel of the
// reduction,
//   outputs = A^T [(G filter G^T) * (B^T inputs B)] A
// where * is element by element: 36 multiplications for 9 outputs of 4x4 taps instead of 144, and
// for 16 outputs of 3x3 taps instead of 144. For the points x_0 to x_4 and infinity, with
// N_i the product of (x_i - x_j) over j other than i,
//   A^T  m x 6  column i is x_i^0, x_i^1 and so on; the last one is 0, ..., 0, 1
//   G    6 x r  row i is x_i^0 / N_i, x_i^1 / N_i and so on; the last one is 0, ..., 0, 1
//   B^T  6 x 6  row i has the coefficients of the product of (x - x_j) over j other than i, the
//               constant one first; the last row those of the product over all j
// The sums of roundings are about six times those of the convolution itself, relative to the
// largest outputs: nothing beside what float16 loses, and too much for it.
#pragma once

#include "efficientad/segment_convolution.h"

namespace efficientad::winograd {

inline constexpr int kPoints = 6;  // along either axis, infinity included
// These need the fewest roundings of all small numbers: B^T and A^T have short fractions alone.
inline constexpr double kFinitePoints[kPoints - 1] = {0, 1, -1, 2, -0.5};

constexpr std::int64_t outputs_along(int kernel) { return kPoints - kernel + 1; }

// Taps along either axis of what the problem is computed with: those of its largest kernel, beside
// which the others are extended by zeros, below and to the right.
inline int kernel_of(const SegmentConvolution& problem) {
  int kernel = 0;
  for (int i = 0; i < problem.segment_count; ++i) {
    if (problem.segments[i].kernel > kernel) kernel = problem.segments[i].kernel;
  }
  return kernel;
}

// The numbers that the output channels have each at one point.
inline std::int64_t channels_of(const SegmentConvolution& problem) {
  std::int64_t channels = 0;
  for (int i = 0; i < problem.segment_count; ++i) channels += problem.segments[i].channels;
  return channels;
}

}  // namespace efficientad::winograd

namespace efficientad {

// The kernel winograd_convolution(const SegmentConvolution&, const Execution&) computes what
// segment_convolution does, under these conditions:
// - `type` is float32 or float64;
// - all segments have stride 1, and the largest kernel has 3 or 4 taps along either axis;
// - `weight` is the matrix [output_channels][kPoints][kPoints][channels] of G filter G^T in the
//   backend's WeightLayout, where points are those of rows, then those of columns, and channels
//   run over the segments.
// A NaN or an infinite number in the input shows in all outputs of the tiles that see it.

}  // namespace efficientad
