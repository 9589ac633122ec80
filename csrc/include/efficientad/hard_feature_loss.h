// The hard feature loss (EfficientAD, section 3.2): the mean of the largest squared differences.
#pragma once

#include <cstddef>

#include "efficientad/execution.h"
#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

// With D = (teacher - student)^2 over all elements, computed in the accumulator type:
//   threshold = the element of rank `rank` (0-based, ascending) of D
//   loss      = mean of the elements of D that are >= threshold
// A NaN ranks above every number and counts as selected, so that it shows in the loss.
struct HardFeatureLoss {
  ScalarType type;  // of teacher and student: any floating type
  FeatureMaps teacher;
  FeatureMaps student;  // same shape and same layout as teacher
  std::int64_t rank;    // 0 <= rank < teacher.elements()
  void* loss;           // one Accumulator
  double* selection;    // {threshold, number of selected elements}
  void* workspace;      // hard_feature_loss_workspace(...) bytes, contents undefined
};

// d loss / d student of the same selection; d loss / d teacher is its negative.
struct HardFeatureLossGradient {
  ScalarType type;
  FeatureMaps teacher;
  FeatureMaps student;
  const void* loss_gradient;  // one Accumulator
  const double* selection;    // as HardFeatureLoss wrote it
  FeatureMaps gradient;       // output, same shape and same layout as student
};

}  // namespace efficientad
