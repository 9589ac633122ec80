// The standard library's selection, compiled once for any processor (see simd.h for why).
#pragma once

#include <cstdint>

namespace efficientad::cpu {

// Reorders `values` so that values[rank] is the element of that rank, ascending. No value is NaN.
float nth_element(float* values, std::int64_t count, std::int64_t rank);
double nth_element(double* values, std::int64_t count, std::int64_t rank);

}  // namespace efficientad::cpu
