// ReLU and 2x2 average pooling of a convolution that has been computed already.
#pragma once

#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

// Average pooling with a 2x2 window and stride 2 over the rectified activation with `pool_padding`
// zeros on every side; the zeros count in the average.
struct ReluPool {
  ScalarType type;  // of input and output: any floating type
  FeatureMaps input;
  std::int64_t pool_padding;  // 0 or 1
  FeatureMaps output;         // same batch, channels and layout as input
};

// A quarter of its window's gradient for each input element, but zero where the element is not
// positive (a NaN counts as positive, as in torch) or in no window.
struct ReluPoolGradient {
  ScalarType type;
  FeatureMaps input;
  FeatureMaps output_gradient;  // same layout as input
  std::int64_t pool_padding;
  FeatureMaps input_gradient;  // output; same shape and layout as input
};

}  // namespace efficientad
