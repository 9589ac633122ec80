#include "cpu/nth_element.h"

#include <algorithm>

namespace efficientad::cpu {
namespace {

template <class Value>
Value select(Value* values, std::int64_t count, std::int64_t rank) {
  std::nth_element(values, values + rank, values + count);
  return values[rank];
}

}  // namespace

float nth_element(float* values, std::int64_t count, std::int64_t rank) {
  return select(values, count, rank);
}

double nth_element(double* values, std::int64_t count, std::int64_t rank) {
  return select(values, count, rank);
}

}  // namespace efficientad::cpu
