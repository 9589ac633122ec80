// Exact order statistics, from which quantiles are interpolated (EfficientAD, section 3.4).
#pragma once

#include <cstddef>

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad {

inline constexpr int kMaximumRanks = 16;

// output[i] = the element of rank ranks[i] (0-based, ascending) of `values`.
// With a NaN among the values the output is unspecified and nan_count says how many there are.
struct OrderStatistics {
  ScalarType type;     // of values and output: any floating type
  const void* values;  // dense
  std::int64_t count;  // > 0
  std::int64_t ranks[kMaximumRanks];
  int rank_count;           // 1 <= rank_count <= kMaximumRanks
  void* output;             // [rank_count]
  std::int64_t* nan_count;  // one number
  void* workspace;          // order_statistics_workspace(...) bytes, contents undefined
};

}  // namespace efficientad
