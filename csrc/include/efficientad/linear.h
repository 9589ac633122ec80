// A fully connected layer: the autoencoder's bottleneck, an 8x8 convolution over 8x8 feature maps
// (EfficientAD, appendix A), and PUAD's feature, a PDN's last layer on window means.
#pragma once

#include <cstdint>

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad {

// output[n, o] = bias[o] + sum over k of weight[o, k] * input[n, k], summed in the accumulator type
struct Linear {
  ScalarType type;                      // of input, weight and output: any floating type
  const void* input;                    // [batch][inputs]
  const void* weight;                   // [outputs][inputs]
  const void* bias;                     // [outputs], Accumulator
  std::int64_t batch, inputs, outputs;  // inputs is a multiple of 64
  void* output;                         // [batch][outputs]
};

}  // namespace efficientad
