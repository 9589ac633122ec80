// Squares of vectors with rows and columns exchanged, and pairs of numbers of two bytes.
#pragma once

#include "cpu/simd.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

inline constexpr int kSquare = kLanes<std::uint32_t>;  // elements of four bytes in a vector

// Exchanges the blocks of width x width elements beside the diagonal of each block twice as wide,
// then those half as wide, and so on.
template <int width, class Element>
inline void exchange_blocks(Vector<Element> (&rows)[kSquare]) {
  static_assert(sizeof(Element) == 4);
  Vector<std::uint32_t> upper, lower;
#pragma GCC unroll 16
  for (int lane = 0; lane < kSquare; ++lane) {
    const bool right = (lane & width) != 0;
    upper[lane] = static_cast<std::uint32_t>(right ? kSquare + lane - width : lane);
    lower[lane] = static_cast<std::uint32_t>(right ? kSquare + lane : lane + width);
  }
#pragma GCC unroll 16
  for (int row = 0; row < kSquare; ++row) {
    if ((row & width) != 0) continue;
    const Vector<Element> above = rows[row], below = rows[row + width];
    rows[row] = __builtin_shuffle(above, below, upper);
    rows[row + width] = __builtin_shuffle(above, below, lower);
  }
  if constexpr (width > 1) exchange_blocks<width / 2, Element>(rows);
}

template <class Element>
inline void transpose(Vector<Element> (&rows)[kSquare]) {
  exchange_blocks<kSquare / 2, Element>(rows);
}

using Pairs = Vector<std::uint32_t>;

// Lane i holds first[i] in its lower half and second[i] in its upper half.
inline Pairs pairs_of(const BFloat16* first, const BFloat16* second) {
  typename VectorType<std::uint16_t, kVectorBytes / 2>::type low, high;
  std::memcpy(&low, first, sizeof(low));
  std::memcpy(&high, second, sizeof(high));
  return __builtin_convertvector(low, Pairs) | (__builtin_convertvector(high, Pairs) << 16);
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
