// Random matrices and their product in double precision, for kernels that multiply matrices.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "cuda/launch_shape.h"
#include "efficientad/scalar.h"

namespace efficientad::cuda {

inline void store_number(float number, Half& place) { place = float_to_half(number); }
inline void store_number(float number, BFloat16& place) { place = float_to_bfloat16(number); }
// In tf32, whose low 13 bits are zero.
inline void store_number(float number, float& place) {
  place = float_from_bits(float_bits(number) & 0xffffe000u);
}

inline float load_number(Half value) { return half_to_float(value); }
inline float load_number(BFloat16 value) { return bfloat16_to_float(value); }
inline float load_number(float value) { return value; }

// The product of a (rows x depth) and the transpose of b (columns x depth).
template <class T>
struct Product {
  int rows, columns, depth;
  // Vectors, whose data lies at 16-byte boundaries.
  std::vector<Vector<T, 16 / sizeof(T)>> a, b;
  std::vector<float> result;

  Product(int result_rows, int result_columns, int sum_depth)
      : rows(result_rows), columns(result_columns), depth(sum_depth) {
    static std::mt19937 random;
    std::uniform_real_distribution<float> numbers(-1, 1);
    const auto fill = [&](auto& matrix, int lines) {
      matrix.resize(static_cast<std::size_t>(lines * depth) * sizeof(T) / 16);
      for (auto& vector : matrix) {
        for (T& value : vector.values) store_number(numbers(random), value);
      }
    };
    fill(a, rows);
    fill(b, columns);
    result.assign(static_cast<std::size_t>(rows * columns), NAN);
  }

  const T* a_data() const { return a.data()->values; }
  const T* b_data() const { return b.data()->values; }

  // Products are exact, so that only the sums in float round.
  bool is_right() const {
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) {
        double expected = 0, magnitude = 0;
        for (int k = 0; k < depth; ++k) {
          const double term = static_cast<double>(load_number(a_data()[row * depth + k])) *
                              static_cast<double>(load_number(b_data()[column * depth + k]));
          expected += term;
          magnitude += std::abs(term);
        }
        const double error = std::abs(result[row * columns + column] - expected);
        // Written so that a NaN is wrong.
        if (!(error <= magnitude * depth * 0x1p-24)) return false;
      }
    }
    return true;
  }
};

}  // namespace efficientad::cuda
