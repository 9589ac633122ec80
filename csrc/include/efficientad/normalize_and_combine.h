// Quantile normalisation of the local and the global map, their average, its upsampling and the
// image score (EfficientAD, section 3.4).
#pragma once

#include "efficientad/execution.h"
#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

// A calibration maps quantile a to 0 and quantile b to 0.1, linearly.
struct QuantilePair {
  double a;
  double b;  // > a
};

// combined = (calibrated(local_map) + calibrated(global_map)) / 2, on the feature grid
// map      = combined, resampled bilinearly along `rows` and `columns`
// score[n] = maximum of combined over image n's feature grid
struct NormalizeAndCombine {
  ScalarType type;        // of local_map, global_map and map: any floating type
  const void* local_map;  // dense [planes][batch][height][width]; the map is the planes' sum
  const void* global_map;
  std::int64_t planes;
  std::int64_t batch, height, width;
  QuantilePair local_quantiles;
  QuantilePair global_quantiles;
  ResamplingAxis rows;
  ResamplingAxis columns;
  std::int64_t output_height, output_width;
  void* map;    // dense [batch][output_height][output_width]
  void* score;  // [batch], Accumulator
};

}  // namespace efficientad
