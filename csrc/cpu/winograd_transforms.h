// The transforms of winograd_convolution.h: B^T inputs B, A^T products A, and G filter G^T.
#pragma once

#include "cpu/simd.h"
#include "efficientad/winograd_convolution.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

using winograd::kPoints;
inline constexpr std::int64_t kPlanePoints = kPoints * kPoints;

static_assert(kPoints == 6 && winograd::kFinitePoints[0] == 0 && winograd::kFinitePoints[1] == 1 &&
                  winograd::kFinitePoints[2] == -1 && winograd::kFinitePoints[3] == 2 &&
                  winograd::kFinitePoints[4] == -0.5,
              "the sums below are those of these points");

// B^T along one axis, in 14 operations: the products over j share their factors.
template <class Number>
inline void input_to_points(const Vector<Number> (&x)[kPoints], Vector<Number> (&values)[kPoints]) {
  constexpr Number kHalf = 0.5, kTwo = 2, kThreeHalves = 1.5;
  const Vector<Number> even = x[4] - x[2], odd = x[3] - x[1];
  const Vector<Number> sum = even - kThreeHalves * x[3], difference = odd - kThreeHalves * x[2];
  values[0] = (x[0] - x[2]) + even - kThreeHalves * odd;
  values[1] = sum + difference;
  values[2] = sum - difference;
  values[3] = even + kHalf * odd;
  values[4] = even - kTwo * odd;
  values[5] = (x[5] - x[3]) - odd - kThreeHalves * even;
}

// A^T along one axis.
template <class Number, int kOutputs>
inline void points_to_outputs(const Vector<Number> (&values)[kPoints],
                              Vector<Number> (&outputs)[kOutputs]) {
  static_assert(kOutputs == 3 || kOutputs == 4);
  constexpr Number kHalf = 0.5, kQuarter = 0.25, kEighth = 0.125, kTwo = 2, kFour = 4, kEight = 8;
  const Vector<Number> sum = values[1] + values[2], difference = values[1] - values[2];
  outputs[0] = values[0] + sum + (values[3] + values[4]);
  outputs[1] = difference + kTwo * values[3] - kHalf * values[4];
  outputs[2] = sum + kFour * values[3] + kQuarter * values[4];
  if constexpr (kOutputs == 4) {
    outputs[3] = difference + kEight * values[3] - kEighth * values[4];
  }
  outputs[kOutputs - 1] += values[5];
}

// G along one axis: the polynomials' values over N_i.
template <class Number, int kTaps>
inline void taps_to_points(const Vector<Number> (&taps)[kTaps], Vector<Number> (&values)[kPoints]) {
  static_assert(kTaps == 3 || kTaps == 4);
  constexpr Number kTwo = 2, kFour = 4, kHalf = 0.5, kQuarter = 0.25;
  constexpr Number kThird = Number{1} / 3, kFifteenth = Number{1} / 15,
                   kSixteenFifteenths = Number{16} / 15;
  Vector<Number> even = taps[0] + taps[2], odd = taps[1];
  Vector<Number> even_at_two = taps[0] + kFour * taps[2], odd_at_two = taps[1];
  Vector<Number> even_at_half = taps[0] + kQuarter * taps[2], odd_at_half = taps[1];
  if constexpr (kTaps == 4) {
    odd += taps[3];
    odd_at_two += kFour * taps[3];
    odd_at_half += kQuarter * taps[3];
  }
  values[0] = taps[0];
  values[1] = -kThird * (even + odd);
  values[2] = kThird * (even - odd);
  values[3] = kFifteenth * (even_at_two + kTwo * odd_at_two);
  values[4] = -kSixteenFifteenths * (even_at_half - kHalf * odd_at_half);
  values[5] = taps[kTaps - 1];
}

// Along one axis: the inputs of a tile, or the taps of a filter.
template <class Number, int kLength>
inline void to_points(const Vector<Number> (&along)[kLength], Vector<Number> (&values)[kPoints]) {
  if constexpr (kLength == kPoints) {
    input_to_points<Number>(along, values);
  } else {
    taps_to_points<Number, kLength>(along, values);
  }
}

// Along both axes: read(row, column) of these, write(row, column, value) of the points.
template <class Number, int kLength, class Read, class Write>
inline void square_to_points(const Read& read, const Write& write) {
  Vector<Number> half[kLength][kPoints];  // [column][point of the rows]
#pragma GCC unroll 6
  for (int column = 0; column < kLength; ++column) {
    Vector<Number> along[kLength];
#pragma GCC unroll 6
    for (int row = 0; row < kLength; ++row) along[row] = read(row, column);
    to_points<Number, kLength>(along, half[column]);
  }
#pragma GCC unroll 6
  for (int row = 0; row < kPoints; ++row) {
    Vector<Number> along[kLength], values[kPoints];
#pragma GCC unroll 6
    for (int column = 0; column < kLength; ++column) along[column] = half[column][row];
    to_points<Number, kLength>(along, values);
#pragma GCC unroll 6
    for (int column = 0; column < kPoints; ++column) write(row, column, values[column]);
  }
}

// Along both axes: read(row, column) of the points, write(row, column, value) of the outputs.
template <class Number, int kOutputs, class Read, class Write>
inline void points_to_tile(const Read& read, const Write& write) {
  Vector<Number> half[kPoints][kOutputs];  // [point of the rows][output column]
#pragma GCC unroll 6
  for (int row = 0; row < kPoints; ++row) {
    Vector<Number> values[kPoints];
#pragma GCC unroll 6
    for (int column = 0; column < kPoints; ++column) values[column] = read(row, column);
    points_to_outputs<Number, kOutputs>(values, half[row]);
  }
#pragma GCC unroll 4
  for (int column = 0; column < kOutputs; ++column) {
    Vector<Number> along[kPoints], outputs[kOutputs];
#pragma GCC unroll 6
    for (int row = 0; row < kPoints; ++row) along[row] = half[row][column];
    points_to_outputs<Number, kOutputs>(along, outputs);
#pragma GCC unroll 4
    for (int row = 0; row < kOutputs; ++row) write(row, column, outputs[row]);
  }
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
