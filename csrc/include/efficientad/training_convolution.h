// What trainings compute beside their convolutions, which are one segment of segment_convolution or
// winograd_convolution, of stride 1: from filters as a training has them, the weight that these
// kernels read, and the filters' gradient.
//
// Filters and their gradient hold the accumulator type of `type`, in
// [output_channels][kernel][kernel][input_channels]. All channels are multiples of 64.
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
  int kernel;  // 1 to 4, or 3 and 4 for winograd_weights
  // That of the convolution that turns gradients of the output into those of the input: in- and
  // outputs exchanged, filters turned by 180 degrees.
  bool transposed;
  void* weight;  // of `type`
};

// The kernels filter_gradient and winograd_filter_gradient(const FilterGradient&, const
// Execution&):
//   filter_gradient[o][r][s][c] = the sum over all images, rows y and columns x of
//                                 output_gradient[y][x][o] * input[y - padding + r][x - padding +
//                                 s][c]
struct FilterGradient {
  ScalarType type;
  const void* input;            // [batch][input_height][input_width][input_channels]
  const void* output_gradient;  // [batch][height][width][output_channels]
  std::int64_t batch, input_height, input_width, height, width;
  std::int64_t input_channels, output_channels;
  int kernel;   // 1 to 4, or 3 and 4 for winograd_filter_gradient
  int padding;  // zeros around the input, fewer than the kernel has taps
  void* filter_gradient;
};

}  // namespace efficientad
