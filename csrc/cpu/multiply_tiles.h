// The sums of convolutions on AMX: 32 pixels and two panels of output channels at a time.
//
//            weights of panel 0   weights of panel 1
//   pixels 0-15     sums 0               sums 1
//   pixels 16-31    sums 2               sums 3
//
// The inputs of 16 pixels are 16 rows of a tile, read where they lie; one load takes 64 bytes of
// the reduction. A panel's weights for those are one tile, stored one row after the other.
#pragma once

#include <cstdint>

#include "cpu/multiplier.h"
#include "cpu/tiles.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// Tiles by what they hold.
inline constexpr int kInputs = 4, kWeights = 6;  // two each, behind four tiles of sums

inline constexpr std::int64_t kPixelsOfTiles = 2 * kTileRows;

template <bool two_rows, class Scalar>
inline void multiply_add_tiles(const Operands<Scalar>& operands, const Reduction& reduction,
                               const Sums<Scalar>& sums) {
  constexpr std::int64_t kPitch = kGroup<Scalar> * sizeof(float);
  constexpr std::int64_t kPanelRow = kPanel * 2 * sizeof(Scalar);
  const std::int64_t from_pitch = sums.from_pitch * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t pitch = operands.pixel_pitch * static_cast<std::int64_t>(sizeof(Scalar));
  const Sums<Scalar> sums_below = sums.part(kTileRows, 0);
  const std::int64_t below = kTileRows * operands.pixel_pitch;
  load_tile<0>(sums.from, from_pitch);
  load_tile<1>(sums.from + kPanel, from_pitch);
  if constexpr (two_rows) {
    load_tile<2>(sums_below.from, from_pitch);
    load_tile<3>(sums_below.from + kPanel, from_pitch);
  }
  constexpr std::int64_t kNumbers = kTileBytes / sizeof(Scalar);
  const std::int64_t numbers = reduction.length < kNumbers ? reduction.length : kNumbers;
  const Scalar* weight = operands.weight;
  for (std::int64_t run = 0; run < reduction.count; ++run) {
    const Scalar* input = operands.input + reduction.offsets[run];
    for (std::int64_t k = 0; k < reduction.length; k += numbers) {
      load_tile<kWeights>(weight, kPanelRow);
      load_tile<kInputs>(input + k, pitch);
      multiply_tiles<0, kInputs, kWeights>(Scalar{});
      load_tile<kWeights + 1>(weight + operands.panel_pitch, kPanelRow);
      multiply_tiles<1, kInputs, kWeights + 1>(Scalar{});
      if constexpr (two_rows) {
        load_tile<kInputs + 1>(input + below + k, pitch);
        multiply_tiles<2, kInputs + 1, kWeights>(Scalar{});
        multiply_tiles<3, kInputs + 1, kWeights + 1>(Scalar{});
      }
      weight += numbers * kPanel;
    }
  }
  store_tile<0>(sums.to, kPitch);
  store_tile<1>(sums.to + kPanel, kPitch);
  if constexpr (two_rows) {
    store_tile<2>(sums_below.to, kPitch);
    store_tile<3>(sums_below.to + kPanel, kPitch);
  }
}

// VectorMultiplication of multiply.h on tiles, which it uses until it ends.
template <class Scalar>
class TileMultiplication {
 public:
  static constexpr std::int64_t kColumns = kPixelsOfTiles;

  TileMultiplication() = default;
  TileMultiplication(const TileMultiplication&) = delete;
  TileMultiplication& operator=(const TileMultiplication&) = delete;
  ~TileMultiplication() {
    if (pixels_ > 0) release_tiles();
  }

  static_assert(kGroup<Scalar> == 2 * kPanel);

  void add(std::int64_t pixels, const Operands<Scalar>& operands, const Reduction& reduction,
           const Sums<Scalar>& sums) {
    for (std::int64_t pixel = 0; pixel < pixels; pixel += kPixelsOfTiles) {
      const std::int64_t left = pixels - pixel;
      take_shapes(left < kPixelsOfTiles ? left : kPixelsOfTiles, reduction.length);
      Operands<Scalar> part = operands;
      part.input += pixel * operands.pixel_pitch;
      if (pixels_ > kTileRows) {
        multiply_add_tiles<true>(part, reduction, sums.part(pixel, 0));
      } else {
        multiply_add_tiles<false>(part, reduction, sums.part(pixel, 0));
      }
    }
  }

 private:
  // For so many pixels; runs of the reduction are 64 bytes or whole multiples of them, or fewer.
  void take_shapes(std::int64_t pixels, std::int64_t run_length) {
    if (pixels == pixels_ && run_length == run_length_) return;
    pixels_ = pixels;
    run_length_ = run_length;
    const std::int64_t above = pixels < kTileRows ? pixels : kTileRows;
    const std::int64_t below = pixels - above;
    const std::int64_t run_bytes = run_length * static_cast<std::int64_t>(sizeof(Scalar));
    const std::int64_t input_bytes = run_bytes < kTileBytes ? run_bytes : kTileBytes;
    TileShapes shapes;
    for (int panel = 0; panel < 2; ++panel) {
      shapes.set(panel, above, kTileBytes);
      if (below > 0) shapes.set(2 + panel, below, kTileBytes);
      shapes.set(kWeights + panel, input_bytes / 4, kTileBytes);
    }
    shapes.set(kInputs, above, input_bytes);
    if (below > 0) shapes.set(kInputs + 1, below, input_bytes);
    configure_tiles(shapes);
  }

  std::int64_t pixels_ = 0, run_length_ = 0;  // that the tiles' shapes are for
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
