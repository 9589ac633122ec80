// The arithmetic of image_conv_relu_pool_gradient: products of gradients and an image's pixels,
// added up along one row of the convolution.
//
// Of the gradients there is a strip at a time: one row's, of a few output channels, zero where the
// ReLU let nothing pass. Of the image there are rows in an order of their own, of which each tap
// row reads one. Both are `Factor`s, and the sums are `Number`s. On vectors, channels are the
// lanes, and each pixel's four columns and three colours are multiplied with all of them. On tiles,
// pixels are what is summed up over.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/multiplier.h"
#include "cpu/transpose.h"
#include "efficientad/image_convolution.h"
#if defined(EFFICIENTAD_TILES)
#include "cpu/tiles.h"
#endif

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

inline constexpr std::int64_t kTapRowInputs = kImageKernel * kImageColours;  // of an output pixel

// Of as many channels of a pixel as a vector has lanes, from `channel` on, which passed the ReLU.
template <class Number>
inline std::uint32_t active_bits(const std::uint8_t* active, std::int64_t channel) {
  constexpr int kLaneCount = kLanes<Number>;
  const std::uint8_t* from = active + channel / 8;
  if constexpr (kLaneCount == 16) {
    return from[0] | static_cast<std::uint32_t>(from[1]) << 8;
  } else {
    return (from[0] >> (channel % 8)) & ((1u << kLaneCount) - 1);
  }
}

// Rows of the image are [columns + kImageKernel - 1][kImageColours], strips [columns][kChannels].
// Sums are [kImageKernel][kTapRowInputs][kChannels], the inputs of a tap row by column and colour,
// and behind them those of the bias, [kChannels].
template <class Scalar>
class VectorImageProducts {
 public:
  using Number = Accumulator<Scalar>;
  using Factor = Number;

  static constexpr std::int64_t kChannels = kLanes<Number>;
  static constexpr std::int64_t kSums = (kImageKernel * kTapRowInputs + 1) * kChannels;

  explicit VectorImageProducts(std::int64_t columns) : columns_(columns) {}

  std::int64_t row_length() const { return (columns_ + kImageKernel - 1) * kImageColours; }
  std::int64_t strip_length() const { return columns_ * kChannels; }

  // `from` has its colours `plane` numbers apart.
  void read_row(const Number* from, std::int64_t plane, Factor* row) const {
    for (std::int64_t x = 0; x < columns_ + kImageKernel - 1; ++x) {
      for (std::int64_t colour = 0; colour < kImageColours; ++colour) {
        *row++ = from[colour * plane + x];
      }
    }
  }

  // The gradients of one row of windows, of channels from `channel` on, for one of its two rows of
  // pixels; all of a pixel's channels are `channels`.
  void read_gradients(const Scalar* gradients, const std::uint8_t* active, std::int64_t channels,
                      std::int64_t channel, Factor* strip, Number* sums) const {
    Vector<Number> bias = {};
    for (std::int64_t x = 0; x < columns_; ++x) {
      const Vector<Number> quarter = load(gradients + x / 2 * channels + channel) * Number{0.25};
      const Vector<Number> passed =
          where_set<Number>(active_bits<Number>(active + x * (channels / 8), channel), quarter);
      bias += passed;
      store(strip + x * kChannels, passed);
    }
    Number* const to = sums + kImageKernel * kTapRowInputs * kChannels;
    store(to, load(to) + bias);
  }

  // `rows`: what each tap row reads.
  void add(const Factor* strip, const Factor* const (&rows)[kImageKernel], Number* sums) const {
    for (const Factor* row : rows) {
      add_row(strip, row, sums);
      sums += kTapRowInputs * kChannels;
    }
  }

  static Number filter(const Number* sums, std::int64_t row, std::int64_t column,
                       std::int64_t colour, std::int64_t channel) {
    return sums[((row * kImageKernel + column) * kImageColours + colour) * kChannels + channel];
  }
  static Number bias(const Number* sums, std::int64_t channel) {
    return sums[kImageKernel * kTapRowInputs * kChannels + channel];
  }

 private:
  // Sums of a row are formed on their own: added to what there is one by one, they would lose
  // digits to it. Not inlined, so that they have the registers to themselves.
  [[gnu::noinline]] void add_row(const Factor* strip, const Factor* row, Number* sums) const {
    Vector<Number> totals[kTapRowInputs] = {};
    for (std::int64_t x = 0; x < columns_; ++x) {
      const Vector<Number> gradients = load(strip);
#pragma GCC unroll 12
      for (std::int64_t i = 0; i < kTapRowInputs; ++i) totals[i] += broadcast(row[i]) * gradients;
      strip += kChannels;
      row += kImageColours;
    }
#pragma GCC unroll 12
    for (std::int64_t i = 0; i < kTapRowInputs; ++i) {
      store(sums + i * kChannels, load(sums + i * kChannels) + totals[i]);
    }
  }

  const std::int64_t columns_;  // of the convolution
};

#if defined(EFFICIENTAD_TILES)
// In bfloat16. A row of the image is there once for each of a tap row's inputs, moved by the tap's
// column, so that 32 pixels of all of them are a tile; a row of ones behind them gives the bias's
// gradient. Of gradients, two neighbouring pixels are a row of pairs [kChannels][2].
//
// Sums are [kImageKernel][kTileRows][kChannels], the inputs of a tap row by colour and column.
class TileImageProducts {
 public:
  using Number = float;
  using Factor = BFloat16;

  static constexpr std::int64_t kChannels = kTileRows;
  static constexpr std::int64_t kSums = kImageKernel * kTileRows * kChannels;

  explicit TileImageProducts(std::int64_t columns)
      : columns_(columns),
        tiles_((columns + kTilePixels - 1) / kTilePixels),
        input_pitch_(tiles_ * kTilePixels + kTilePixels) {
    TileShapes shapes;
    for (int tile = 0; tile < kStrip; ++tile) shapes.set(tile, kInputs, kTileBytes);
    for (int tile = kStrip; tile < kTiles; ++tile) shapes.set(tile, kTileRows, kTileBytes);
    configure_tiles(shapes);
  }
  TileImageProducts(const TileImageProducts&) = delete;
  TileImageProducts& operator=(const TileImageProducts&) = delete;
  ~TileImageProducts() { release_tiles(); }

  std::int64_t row_length() const { return kInputs * input_pitch_; }
  std::int64_t strip_length() const { return tiles_ * kTilePixels * kChannels; }

  void read_row(const float* from, std::int64_t plane, BFloat16* row) const {
    for (std::int64_t colour = 0; colour < kImageColours; ++colour) {
      for (std::int64_t column = 0; column < kImageKernel; ++column) {
        const float* const moved = from + colour * plane + column;
        read_input([&](std::int64_t x, std::int64_t count) { return load_up_to(moved + x, count); },
                   row);
        row += input_pitch_;
      }
    }
    read_input([](std::int64_t, std::int64_t) { return broadcast(1.0f); }, row);
  }

  void read_gradients(const BFloat16* gradients, const std::uint8_t* active, std::int64_t channels,
                      std::int64_t channel, BFloat16* strip, float*) const {
    for (std::int64_t x = 0; x < columns_; x += 2) {
      for (std::int64_t lane = 0; lane < kChannels; lane += kSquare) {
        const std::int64_t first = channel + lane;
        const Vector<float> quarter = load(gradients + x / 2 * channels + first) * 0.25f;
        const std::uint8_t* const pixel = active + x * (channels / 8);
        const auto passed = [&](const std::uint8_t* of_pixel) {
          return reinterpret_cast<Pairs>(
              where_set<float>(active_bits<float>(of_pixel, first), quarter));
        };
        // The upper half of a float is a bfloat16; of a quarter of one, all but of the smallest.
        const Pairs pairs = (passed(pixel) >> 16) | (passed(pixel + channels / 8) & 0xffff0000u);
        std::memcpy(strip + 2 * lane, &pairs, sizeof(pairs));
      }
      strip += 2 * kChannels;
    }
    const std::int64_t behind = (tiles_ * kTilePixels - columns_) * kChannels;
    std::memset(strip, 0, static_cast<std::size_t>(behind) * sizeof(BFloat16));
  }

  void add(const BFloat16* strip, const BFloat16* const (&rows)[kImageKernel], float* sums) const {
    constexpr std::int64_t kTapRow = kTileRows * kChannels;
    load_tile<0>(sums, kTileBytes);
    load_tile<1>(sums + kTapRow, kTileBytes);
    load_tile<2>(sums + 2 * kTapRow, kTileBytes);
    load_tile<3>(sums + 3 * kTapRow, kTileBytes);
    const std::int64_t pitch = input_pitch_ * static_cast<std::int64_t>(sizeof(BFloat16));
    for (std::int64_t x = 0; x < tiles_ * kTilePixels; x += kTilePixels) {
      load_tile<kStrip>(strip + x * kChannels, kTileBytes);
      load_tile<4>(rows[0] + x, pitch);
      multiply_tiles<0, 4, kStrip>(BFloat16{});
      load_tile<5>(rows[1] + x, pitch);
      multiply_tiles<1, 5, kStrip>(BFloat16{});
      load_tile<4>(rows[2] + x, pitch);
      multiply_tiles<2, 4, kStrip>(BFloat16{});
      load_tile<5>(rows[3] + x, pitch);
      multiply_tiles<3, 5, kStrip>(BFloat16{});
    }
    store_tile<0>(sums, kTileBytes);
    store_tile<1>(sums + kTapRow, kTileBytes);
    store_tile<2>(sums + 2 * kTapRow, kTileBytes);
    store_tile<3>(sums + 3 * kTapRow, kTileBytes);
  }

  static float filter(const float* sums, std::int64_t row, std::int64_t column, std::int64_t colour,
                      std::int64_t channel) {
    return sums[(row * kTileRows + colour * kImageKernel + column) * kChannels + channel];
  }
  static float bias(const float* sums, std::int64_t channel) {
    return sums[kTapRowInputs * kChannels + channel];
  }

 private:
  static constexpr std::int64_t kInputs = kTapRowInputs + 1;  // and the ones
  static constexpr int kStrip = 6;                            // the tile of gradients
  static constexpr std::int64_t kTilePixels = kTileBytes / sizeof(BFloat16);

  // One input of all pixels; zeros behind them, which gradients of zero are multiplied with.
  template <class Values>
  void read_input(const Values& values, BFloat16* to) const {
    for (std::int64_t x = 0; x < columns_; x += kLanes<float>) {
      const std::int64_t left = columns_ - x;
      const std::int64_t count = left < kLanes<float> ? left : kLanes<float>;
      store_up_to(to + x, values(x, count), count);
    }
    std::memset(to + columns_, 0,
                static_cast<std::size_t>(input_pitch_ - columns_) * sizeof(BFloat16));
  }

  const std::int64_t columns_;  // of the convolution, of whole windows
  const std::int64_t tiles_;    // along them
  // A tile more than the pixels need: for 225 to 256 columns an odd number of cache lines, so that
  // the rows of a tile do not fall into the same sets of the cache.
  const std::int64_t input_pitch_;
};

template <class Scalar>
using ImageProducts = std::conditional_t<std::is_same_v<Scalar, BFloat16>, TileImageProducts,
                                         VectorImageProducts<Scalar>>;
#else
template <class Scalar>
using ImageProducts = VectorImageProducts<Scalar>;
#endif

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
