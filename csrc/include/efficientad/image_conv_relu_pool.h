// The first stage of a patch description network in training (EfficientAD, appendix A): a 4x4
// convolution of images, bias, ReLU and 2x2 average pooling, and what its filters learn from.
//
// Images are [batch][3][height][width], filters and their gradient [output_channels][row][column]
// [colour], both of the accumulator of `type`, as biases are. Maps have one pixel for each window
// of the pool: pooled_height = (height - 3) / 2, pooled_width likewise.
#pragma once

#include <cstdint>

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad {

struct ImageConvReluPool {
  // Of the output: any floating type. Filters are rounded to it. So are images where a backend
  // multiplies that type, and what rounding takes from a number is given to its right neighbour.
  ScalarType type;
  const void* image;
  std::int64_t batch, height, width;
  const void* filters;
  const void* bias;              // [output_channels]
  std::int64_t output_channels;  // a multiple of 64
  // 1 where the pool has a border of zeros: the outermost rows and columns of the convolution are
  // taken for it, whatever their values. 0 where it has none.
  int pool_padding;
  void* output;  // [batch][pooled_height][pooled_width][output_channels]
  // nullptr, or [batch][2 pooled_height][2 pooled_width][output_channels / 8], for the gradient:
  // whether the ReLU lets output channel c of a pixel pass is bit c % 8 of byte c / 8. A NaN
  // passes, as in torch; the border does not.
  std::uint8_t* active;
};

// The gradients of filters and bias, from that of the output and what passed the ReLU.
struct ImageConvReluPoolGradient {
  // Of the output's gradient. Images may be rounded to it.
  ScalarType type;
  const void* image;
  std::int64_t batch, height, width;
  const std::uint8_t* active;   // as above, not nullptr
  const void* output_gradient;  // as the output above
  std::int64_t output_channels;
  void* filter_gradient;
  void* bias_gradient;  // [output_channels]
};

}  // namespace efficientad
