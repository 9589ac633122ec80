// From image bytes to the first feature maps: the first layers of teacher and student, stacked, and
// of the autoencoder (EfficientAD, appendix A).
#pragma once

#include <cstdint>

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad {

inline constexpr int kImageKernel = 4;  // taps along either axis
inline constexpr int kImageColours = 3;
inline constexpr int kImageChannels = 4;  // red, green, blue, and 1 wherever there is a pixel

// A 4x4 convolution with bias and ReLU. The image's normalisation is part of weight and bias: the
// fourth channel carries its mean where zeros are padded behind it.
struct ImageConvolution {
  ScalarType type;        // of weight and output: any floating type a backend knows
  ScalarType image_type;  // uint8: [batch][height][width][3]; else float32, double for float64
                          // weights: [batch][3][height][width]
  const void* image;
  std::int64_t batch, height, width;
  // The matrix [output_channels][row, column, kImageChannels] in the backend's WeightLayout.
  const void* weight;
  const void* bias;              // [output_channels], Accumulator
  std::int64_t output_channels;  // a multiple of 64
  // true:  stride 1, no padding, then 2x2 average pooling (a PDN)
  // false: stride 2, one pixel of padding (the autoencoder)
  bool pooled;
  void* output;  // [batch][output height][output width][output_channels]

  std::int64_t output_length(std::int64_t length) const {
    return pooled ? (length - kImageKernel + 1) / 2 : (length + 2 - kImageKernel) / 2 + 1;
  }
};

}  // namespace efficientad
