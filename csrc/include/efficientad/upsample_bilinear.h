// Bilinear resampling of feature maps along two affine axes.
#pragma once

#include "efficientad/execution.h"
#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

struct UpsampleBilinear {
  ScalarType type;  // of input and output: any floating type
  FeatureMaps input;
  FeatureMaps output;  // same batch, channels and layout as input
  ResamplingAxis rows;
  ResamplingAxis columns;
};

// The transpose of UpsampleBilinear. Each input element gathers from the output elements that read
// it, in a fixed order, so that the result is deterministic.
struct UpsampleBilinearGradient {
  ScalarType type;
  FeatureMaps output_gradient;
  FeatureMaps input_gradient;  // output; same batch, channels and layout as output_gradient
  ResamplingAxis rows;
  ResamplingAxis columns;
};

}  // namespace efficientad
