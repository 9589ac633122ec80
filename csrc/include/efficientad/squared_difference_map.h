// The squared difference of two stacks of feature maps, averaged over channels (EfficientAD,
// section 3.3).
#pragma once

#include "efficientad/execution.h"
#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

// output[n, y, x] = mean over c of (a[n, c, y, x] - b[n, c, y, x])^2
struct SquaredDifferenceMap {
  ScalarType type;  // of a, b and output: any floating type
  FeatureMaps a;
  FeatureMaps b;  // same shape and same layout (planes or channels-last) as a
  void* output;   // dense [batch][height][width]
};

}  // namespace efficientad
