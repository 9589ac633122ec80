#include "emulation/operands.h"

#include "emulation/vectorized.h"

namespace efficientad::emulation {
namespace {

// As half_to_float, without branches: scaling the exponent also normalises subnormal numbers.
inline float widen_half(std::uint32_t half) {
  const std::uint32_t magnitude = (half & 0x7fffu) << 13;
  const std::uint32_t finite = float_bits(float_from_bits(magnitude) * 0x1p112f);
  const std::uint32_t special = magnitude | 0x7f800000u;
  const std::uint32_t sign = (half & 0x8000u) << 16;
  return float_from_bits(sign | ((half & 0x7c00u) == 0x7c00u ? special : finite));
}

EFFICIENTAD_VECTORIZED
void widen_float16(const std::uint32_t* words, int count, float* values) {
  for (int i = 0; i < count; ++i) {
    values[2 * i] = widen_half(words[i] & 0xffffu);
    values[2 * i + 1] = widen_half(words[i] >> 16);
  }
}

EFFICIENTAD_VECTORIZED
void widen_bfloat16(const std::uint32_t* words, int count, float* values) {
  for (int i = 0; i < count; ++i) {
    values[2 * i] = float_from_bits(words[i] << 16);
    values[2 * i + 1] = float_from_bits(words[i] & 0xffff0000u);
  }
}

EFFICIENTAD_VECTORIZED
void widen_tf32(const std::uint32_t* words, int count, float* values) {
  for (int i = 0; i < count; ++i) values[i] = float_from_bits(words[i] & 0xffffe000u);
}

// Inlined, so that it is compiled for the instruction set of its caller.
template <int Columns>
[[gnu::always_inline]] inline void multiply_add(const float* a, const float* b, int rows, int depth,
                                                float* sums) {
  for (int row = 0; row < rows; ++row) {
    float result[Columns];
    for (int column = 0; column < Columns; ++column) result[column] = sums[row * Columns + column];
    for (int k = 0; k < depth; ++k) {
      const float factor = a[row * depth + k];
      for (int column = 0; column < Columns; ++column) {
        result[column] += factor * b[k * Columns + column];
      }
    }
    for (int column = 0; column < Columns; ++column) sums[row * Columns + column] = result[column];
  }
}

}  // namespace

void widen_words(MatrixType type, const std::uint32_t* words, int count, float* values) {
  switch (type) {
    case MatrixType::float16:
      return widen_float16(words, count, values);
    case MatrixType::bfloat16:
      return widen_bfloat16(words, count, values);
    case MatrixType::tf32:
      return widen_tf32(words, count, values);
  }
}

EFFICIENTAD_VECTORIZED
void multiply_add_8(const float* a, const float* b, int rows, int depth, float* sums) {
  multiply_add<8>(a, b, rows, depth, sums);
}

EFFICIENTAD_VECTORIZED
void multiply_add_128(const float* a, const float* b, int rows, int depth, float* sums) {
  multiply_add<128>(a, b, rows, depth, sums);
}

float round_to_tf32(float value) {
  const std::uint32_t bits = float_bits(value);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  // Half a unit in the last place is added to the magnitude, so ties go away from zero.
  return float_from_bits(nan ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u);
}

}  // namespace efficientad::emulation
