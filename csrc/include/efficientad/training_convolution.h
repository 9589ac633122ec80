// What trainings compute beside their convolutions, which are one segment of segment_convolution or
// winograd_convolution, of stride 1: from filters as a training has them, the weight that these
// kernels read, and the gradient of the filters.
//
// `type` is that of the maps and the weight: bfloat16 for segment_weights and filter_gradient,
// float32 or float64 for winograd_weights and winograd_filter_gradient. Filters and their gradient
// hold its accumulator type, in [output_channels][kernel][kernel][input_channels]. All channels are
// multiples of 64.
#pragma once

#include <cstdint>

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad {

// The kernels segment_weights and winograd_weights(const ConvolutionWeights&, const Execution&).
struct ConvolutionWeights {
  ScalarType type;
  const void* filters;
  std::int64_t output_channels, input_channels;
  int kernel;  // 1 to 4; 3 or 4 for winograd_weights
  // That of the convolution that turns gradients of the output into those of the input: in- and
  // outputs exchanged, filters rotated by 180 degrees.
  bool transposed;
  void* weight;
};

// The kernels filter_gradient and winograd_filter_gradient(const FilterGradient&, const
// Execution&):
//   filter_gradient[o][r][s][c] =
//       sum of output_gradient[n][y][x][o] * input[n][y - padding + r][x - padding + s][c]
// over images n, rows y and columns x. A NaN or an infinite number in the input may show in taps
// that do not see it.
struct FilterGradient {
  ScalarType type;
  const void* input;            // [batch][input_height][input_width][input_channels]
  const void* output_gradient;  // [batch][height][width][output_channels]
  std::int64_t batch, input_height, input_width, height, width;
  std::int64_t input_channels, output_channels;
  int kernel;   // 1 to 4; 3 or 4 for winograd_filter_gradient
  int padding;  // zeros around the input, fewer than the kernel has taps
  void* filter_gradient;
};

}  // namespace efficientad
