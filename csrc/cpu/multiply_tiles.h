// The sums of convolutions on AMX: 32 pixels of an output row at a time.
//
// The inputs of 16 pixels are 16 rows of a tile, read where they lie; one load takes 64 bytes of
// the reduction. A panel's weights for those are one tile, stored one row after the other. Tiles
// have 16 rows, or 8 for the last pixels: where there are fewer of these, what lies behind them is
// read and multiplied, too (it takes no longer), and its sums mean nothing.
#pragma once

#include <cstdint>

#include "cpu/multiplier.h"
#include "cpu/tiles.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// Tiles by what they hold.
inline constexpr int kInputs = 4, kWeights = 6;  // two each, behind four tiles of sums

// Distances in bytes.
template <class Scalar>
inline constexpr std::int64_t kSumsPitch = kGroup<Scalar> * sizeof(float);
template <class Scalar>
inline constexpr std::int64_t kPanelRow = kPanel * 2 * sizeof(Scalar);

// Numbers of the reduction that a tile takes, of runs that are 64 bytes or whole multiples of them,
// or fewer.
template <class Scalar>
inline std::int64_t numbers_of_tile(const Reduction& reduction) {
  constexpr std::int64_t kNumbers = kTileBytes / sizeof(Scalar);
  return reduction.length < kNumbers ? reduction.length : kNumbers;
}

// One row of pixels and two panels:
//
//                        pixels 0-15   pixels 16-31
//   weights of panel 0      sums 0        sums 1
//   weights of panel 1      sums 2        sums 3
template <bool beyond_16, class Scalar>
inline void multiply_add_row(const Operands<Scalar>& operands, const Reduction& reduction,
                             const Sums<Scalar>& sums) {
  const std::int64_t from_pitch = sums.from_pitch * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t pitch = operands.pixel_pitch * static_cast<std::int64_t>(sizeof(Scalar));
  const Sums<Scalar> sums_behind = sums.part(kTileRows, 0);
  const std::int64_t behind = kTileRows * operands.pixel_pitch;
  load_tile<0>(sums.from, from_pitch);
  load_tile<2>(sums.from + kPanel, from_pitch);
  if constexpr (beyond_16) {
    load_tile<1>(sums_behind.from, from_pitch);
    load_tile<3>(sums_behind.from + kPanel, from_pitch);
  }
  const std::int64_t numbers = numbers_of_tile<Scalar>(reduction);
  const Scalar* weight = operands.weight;
  for (std::int64_t index = 0; index < reduction.count; ++index) {
    const Scalar* input = operands.input + reduction.offsets[index];
    for (std::int64_t tap = 0; tap < reduction.taps; ++tap) {
      for (std::int64_t k = 0; k < reduction.length; k += numbers) {
        load_tile<kWeights>(weight, kPanelRow<Scalar>);
        load_tile<kInputs>(input + k, pitch);
        multiply_tiles<0, kInputs, kWeights>(Scalar{});
        load_tile<kWeights + 1>(weight + operands.panel_pitch, kPanelRow<Scalar>);
        multiply_tiles<2, kInputs, kWeights + 1>(Scalar{});
        if constexpr (beyond_16) {
          load_tile<kInputs + 1>(input + behind + k, pitch);
          multiply_tiles<1, kInputs + 1, kWeights>(Scalar{});
          multiply_tiles<3, kInputs + 1, kWeights + 1>(Scalar{});
        }
        weight += numbers * kPanel;
      }
      input += reduction.tap_pitch;
    }
    keep_vectors_awake();
  }
  store_tile<0>(sums.to, kSumsPitch<Scalar>);
  store_tile<2>(sums.to + kPanel, kSumsPitch<Scalar>);
  if constexpr (beyond_16) {
    store_tile<1>(sums_behind.to, kSumsPitch<Scalar>);
    store_tile<3>(sums_behind.to + kPanel, kSumsPitch<Scalar>);
  }
}

// Of two rows of pixels whose taps are one above the other, one panel. An input row is loaded once
// for both: the upper pixels see it by tap `row`, the lower ones by the tap above that. So weights
// are read half as often as by multiply_add_row, and they come from the second-level cache.
//
//                  pixels 0-15   pixels 16-31
//   upper row         sums 0        sums 1
//   lower row         sums 2        sums 3
template <int row, int taps, bool beyond_16, class Scalar>
inline void multiply_input_rows(const Scalar* input, std::int64_t pitch, std::int64_t behind,
                                std::int64_t tap_pitch, const Scalar* weight,
                                std::int64_t weight_pitch) {
  constexpr int kUpper = kWeights + row % 2, kLower = kWeights + (row + 1) % 2;
  load_tile<kInputs>(input, pitch);
  if constexpr (row > 0) multiply_tiles<2, kInputs, kLower>(Scalar{});
  if constexpr (row < taps) {
    load_tile<kUpper>(weight, kPanelRow<Scalar>);
    multiply_tiles<0, kInputs, kUpper>(Scalar{});
  }
  if constexpr (beyond_16) {
    load_tile<kInputs + 1>(input + behind, pitch);
    if constexpr (row > 0) multiply_tiles<3, kInputs + 1, kLower>(Scalar{});
    if constexpr (row < taps) multiply_tiles<1, kInputs + 1, kUpper>(Scalar{});
  }
  if constexpr (row < taps) {
    multiply_input_rows<row + 1, taps, beyond_16>(input + tap_pitch, pitch, behind, tap_pitch,
                                                  weight + weight_pitch, weight_pitch);
  }
}

template <int taps, bool beyond_16, class Scalar>
inline void multiply_add_two_rows(const Operands<Scalar>& operands, const Reduction& reduction,
                                  const Sums<Scalar>& sums) {
  const std::int64_t from_pitch = sums.from_pitch * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t pitch = operands.pixel_pitch * static_cast<std::int64_t>(sizeof(Scalar));
  const Sums<Scalar> behind = sums.part(kTileRows, 0);
  const Sums<Scalar> below = sums.part(kColumns<Scalar>, 0);
  const Sums<Scalar> below_behind = below.part(kTileRows, 0);
  load_tile<0>(sums.from, from_pitch);
  load_tile<2>(below.from, from_pitch);
  if constexpr (beyond_16) {
    load_tile<1>(behind.from, from_pitch);
    load_tile<3>(below_behind.from, from_pitch);
  }
  const std::int64_t numbers = numbers_of_tile<Scalar>(reduction);
  const std::int64_t weights_of_tap = reduction.length * kPanel;
  const Scalar* weight = operands.weight;
  for (std::int64_t index = 0; index < reduction.count; ++index) {
    const Scalar* input = operands.input + reduction.offsets[index];
    for (std::int64_t k = 0; k < reduction.length; k += numbers) {
      multiply_input_rows<0, taps, beyond_16>(input + k, pitch, kTileRows * operands.pixel_pitch,
                                              reduction.tap_pitch, weight + k * kPanel,
                                              weights_of_tap);
    }
    weight += taps * weights_of_tap;
    keep_vectors_awake();
  }
  store_tile<0>(sums.to, kSumsPitch<Scalar>);
  store_tile<2>(below.to, kSumsPitch<Scalar>);
  if constexpr (beyond_16) {
    store_tile<1>(behind.to, kSumsPitch<Scalar>);
    store_tile<3>(below_behind.to, kSumsPitch<Scalar>);
  }
}

// VectorMultiplication of multiply.h on tiles, which it uses until it ends; of up to kColumns
// pixels.
template <class Scalar>
class TileMultiplication {
 public:
  static constexpr std::int64_t kRows = 2;

  TileMultiplication() = default;
  TileMultiplication(const TileMultiplication&) = delete;
  TileMultiplication& operator=(const TileMultiplication&) = delete;
  ~TileMultiplication() {
    if (numbers_ > 0) release_tiles();
  }

  static_assert(kGroup<Scalar> == 2 * kPanel && kColumns<Scalar> == 2 * kTileRows);

  void add(std::int64_t rows, std::int64_t pixels, const Operands<Scalar>& operands,
           const Reduction& reduction, const Sums<Scalar>& sums) {
    const bool half = pixels > kTileRows && pixels <= kTileRows + kHalfTileRows &&
                      reduction.count * reduction.taps * reduction.length >= kLongReduction;
    take_shapes(numbers_of_tile<Scalar>(reduction), half ? kHalfTileRows : kTileRows);
    if (pixels > kTileRows) {
      add<true>(rows, operands, reduction, sums);
    } else {
      add<false>(rows, operands, reduction, sums);
    }
  }

 private:
  template <bool beyond_16>
  void add(std::int64_t rows, const Operands<Scalar>& operands, const Reduction& reduction,
           const Sums<Scalar>& sums) {
    if (rows == 2 && operands.row_pitch == reduction.tap_pitch) {
      add_two_rows<beyond_16>(operands, reduction, sums);
      return;
    }
    for (std::int64_t row = 0; row < rows; ++row) {
      Operands<Scalar> part = operands;
      part.input += row * operands.row_pitch;
      multiply_add_row<beyond_16>(part, reduction, sums.part(row * kColumns<Scalar>, 0));
    }
  }

  template <bool beyond_16>
  void add_two_rows(const Operands<Scalar>& operands, const Reduction& reduction,
                    const Sums<Scalar>& sums) {
    for (std::int64_t panel = 0; panel < 2; ++panel) {
      Operands<Scalar> part = operands;
      part.weight += panel * operands.panel_pitch;
      const Sums<Scalar> to = sums.part(0, panel);
      switch (reduction.taps) {
        case 1:
          multiply_add_two_rows<1, beyond_16>(part, reduction, to);
          break;
        case 2:
          multiply_add_two_rows<2, beyond_16>(part, reduction, to);
          break;
        case 3:
          multiply_add_two_rows<3, beyond_16>(part, reduction, to);
          break;
        default:
          multiply_add_two_rows<4, beyond_16>(part, reduction, to);
      }
    }
  }

  // A tile of 8 rows is multiplied in half the time, one of 9 in the time of 16. To change shapes
  // takes as long as a few multiplications, which a short reduction would not save.
  static constexpr std::int64_t kHalfTileRows = kTileRows / 2;
  static constexpr std::int64_t kLongReduction = 2048;

  // For so many numbers of the reduction, and rows of tiles behind the first 16 pixels.
  void take_shapes(std::int64_t numbers, std::int64_t rows_behind) {
    if (numbers == numbers_ && rows_behind == rows_behind_) return;
    numbers_ = numbers;
    rows_behind_ = rows_behind;
    const std::int64_t input_bytes = numbers * static_cast<std::int64_t>(sizeof(Scalar));
    TileShapes shapes;
    for (int tile = 0; tile < kInputs; tile += 2) {
      shapes.set(tile, kTileRows, kTileBytes);
      shapes.set(tile + 1, rows_behind, kTileBytes);
    }
    shapes.set(kInputs, kTileRows, input_bytes);
    shapes.set(kInputs + 1, rows_behind, input_bytes);
    shapes.set(kWeights, input_bytes / 4, kTileBytes);
    shapes.set(kWeights + 1, input_bytes / 4, kTileBytes);
    configure_tiles(shapes);
  }

  std::int64_t numbers_ = 0, rows_behind_ = 0;  // that the tiles' shapes are for
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
