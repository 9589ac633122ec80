// The mean of each window that a tap of an unpadded convolution sees: the mean over space of the
// convolution's output is its weights applied to these (PUAD's pooled feature, ICIP 2024,
// section 3).
#pragma once

#include <cstddef>
#include <cstdint>

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad {

// output[n, s, r, c] = mean over y < height - kernel + 1, x < width - kernel + 1 of
//                      input[n, y + r, x + s, first_channel + c]
struct WindowMeans {
  ScalarType type;    // of input: any floating type
  const void* input;  // [batch][height][width][pixel_channels]
  std::int64_t batch, height, width, pixel_channels;
  std::int64_t first_channel, channels;  // channels is a multiple of 64
  int kernel;                            // 1 to 4
  void* output;                          // [batch][tap columns][tap rows][channels], Accumulator
  void* workspace;                       // window_means_workspace(...) bytes, contents undefined
};

}  // namespace efficientad
