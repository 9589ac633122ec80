// Convolution, bias, ReLU and 2x2 average pooling: the first two stages of a PDN (EfficientAD,
// appendix A).
#pragma once

#include <cstddef>

#include "efficientad/execution.h"
#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

// Stride-1 convolution with `padding` zeros on every side, then average pooling with a 2x2 window
// and stride 2 over the activation with `pool_padding` zeros on every side; the zeros count in the
// average.
struct ConvReluPool {
  ScalarType type;  // of everything: any floating type
  FeatureMaps input;
  const void* weight;  // dense [output channels][input channels][kernel height][kernel width]
  const void* bias;    // [output channels] or nullptr
  std::int64_t kernel_height, kernel_width;
  std::int64_t padding;
  std::int64_t pool_padding;  // 0 or 1
  FeatureMaps output;         // any strides
  void* workspace;            // conv_relu_pool_workspace(...) bytes, contents undefined
};

}  // namespace efficientad
