// Reductions in a fixed order, so that the same input always gives the same bits.
#pragma once

#include "cuda/device.h"

namespace efficientad::cuda {

struct Sum {
  template <class T>
  EFFICIENTAD_DEVICE static T apply(T a, T b) {
    return a + b;
  }
};

// A NaN wins over every number.
struct Maximum {
  template <class T>
  EFFICIENTAD_DEVICE static T apply(T a, T b) {
    return a > b || a != a ? a : b;
  }
};

// Reduces over aligned groups of `lanes` (a power of two) lanes; every lane gets the result. Sum
// and Maximum are commutative, so all lanes get the same bits.
template <class Operation, class T>
EFFICIENTAD_DEVICE T reduce_lanes(T value, int lanes = kWarpSize) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value = Operation::apply(value, shuffle_xor(value, distance));
  }
  return value;
}

// Reduces over the block; every thread gets the result. `scratch` has an element per warp, which
// nobody else touches between the barriers before and after.
template <class Operation, class T>
EFFICIENTAD_DEVICE T reduce_block(T value, const SharedArray<T>& scratch) {
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
  const int warps = static_cast<int>(block_threads()) / kWarpSize;
  value = reduce_lanes<Operation>(value);
  if (thread_index() % kWarpSize == 0) scratch.store(warp, value);
  barrier();
  value = scratch.load(0);
  for (int other = 1; other < warps; ++other) {
    value = Operation::apply(value, scratch.load(other));
  }
  barrier();
  return value;
}

}  // namespace efficientad::cuda
