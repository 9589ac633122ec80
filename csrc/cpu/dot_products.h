// The arithmetic of linear layers: dot products of rows of inputs with rows of weights.
#pragma once

#include <type_traits>

#include "cpu/parallel.h"
#include "cpu/scratch.h"
#include "cpu/simd.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// Elements in the type in which they are summed: those given where that is their own type,
// otherwise a copy. `count` is a multiple of 64.
template <class Scalar>
class Widened {
 public:
  using Number = Accumulator<Scalar>;

  Widened(const void* elements, std::int64_t count, const Execution& execution) {
    if constexpr (std::is_same_v<Scalar, Number>) {
      data_ = static_cast<const Number*>(elements);
    } else if (copy_.reserve(count)) {
      const Scalar* from = static_cast<const Scalar*>(elements);
      parallel_ranges(team_for(execution, count), count / kLanes<Number>,
                      [&](int, std::int64_t begin, std::int64_t end) {
                        for (std::int64_t index = begin; index < end; ++index) {
                          const std::int64_t at = index * kLanes<Number>;
                          store(copy_.data() + at, load(from + at));
                        }
                      });
      data_ = copy_.data();
    }
  }

  // nullptr if there is no memory.
  const Number* data() const { return data_; }

 private:
  Scratch<Number> copy_;
  const Number* data_ = nullptr;
};

// kRows x kOutputs dot products of `length`, a multiple of 64, each in the same order whatever the
// block, so that a result does not depend on its neighbours.
template <int kRows, int kOutputs, class Number>
inline void dot_product_block(const Number* rows, const Number* weight, std::int64_t length,
                              const Number* bias, Number* sums, std::int64_t sums_stride) {
  Vector<Number> partial[kRows][kOutputs] = {};
  for (std::int64_t index = 0; index < length; index += kLanes<Number>) {
    Vector<Number> factors[kOutputs];
    for (int output = 0; output < kOutputs; ++output) {
      factors[output] = load(weight + output * length + index);
    }
    for (int row = 0; row < kRows; ++row) {
      const Vector<Number> input = load(rows + row * length + index);
      for (int output = 0; output < kOutputs; ++output) {
        partial[row][output] += input * factors[output];
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int output = 0; output < kOutputs; ++output) {
      sums[row * sums_stride + output] = bias[output] + sum_of_lanes<Number>(partial[row][output]);
    }
  }
}

// sums[row * sums_stride + output] = bias[output] +
//     sum over k of rows[row * length + k] * weight[output * length + k]
template <class Number>
inline void dot_products(const Number* rows, std::int64_t row_count, const Number* weight,
                         const Number* bias, std::int64_t outputs, std::int64_t length,
                         Number* sums, std::int64_t sums_stride) {
  // As many partial sums as keep the multipliers busy and fit the registers of every processor.
  constexpr int kRows = 4, kOutputs = 2;
  std::int64_t output = 0;
  for (; output + kOutputs <= outputs; output += kOutputs) {
    const Number* factors = weight + output * length;
    std::int64_t row = 0;
    for (; row + kRows <= row_count; row += kRows) {
      dot_product_block<kRows, kOutputs>(rows + row * length, factors, length, bias + output,
                                         sums + row * sums_stride + output, sums_stride);
    }
    for (; row < row_count; ++row) {
      dot_product_block<1, kOutputs>(rows + row * length, factors, length, bias + output,
                                     sums + row * sums_stride + output, sums_stride);
    }
  }
  for (; output < outputs; ++output) {
    for (std::int64_t row = 0; row < row_count; ++row) {
      dot_product_block<1, 1>(rows + row * length, weight + output * length, length, bias + output,
                              sums + row * sums_stride + output, sums_stride);
    }
  }
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
