// The arithmetic of filter_gradient: products of gradients and inputs, added up over pixels.
//
// The pixels of all images lie one after the other, in rows of an even length, so that what a tap
// sees lies at the same distance from each of them. Of gradients, each channel is a row of pixels;
// of inputs, each two neighbouring pixels are a row of pairs [kProductChannels][2]. A tap at an odd
// distance reads the pairs at the even distance before, and gradients from the pixel before on.
#pragma once

#include <cstdint>

#include "cpu/multiplier.h"
#include "cpu/transpose.h"
#if defined(EFFICIENTAD_TILES)
#include "cpu/tiles.h"
#endif

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

inline constexpr std::int64_t kProductChannels = 16;
inline constexpr std::int64_t kProductSums = kProductChannels * kProductChannels;

// Numbers for each pixel in a block of pairs; a pair holds two pixels.
inline constexpr std::int64_t kPixelNumbers = kProductChannels;

// Pixels that sums in memory are read and written once for: their gradients fill a third of the
// first-level cache.
inline constexpr std::int64_t kChunkPixels = 512;

// A row of gradients: the pixel before the chunk's, behind what aligns these; an odd number of
// cache lines, so that the rows of a tile do not fall into the same sets of the cache.
inline constexpr std::int64_t kPixelsBefore = 32;
inline constexpr std::int64_t kGradientPitch = kPixelsBefore + kChunkPixels;

// Adds a chunk's products to sums [taps][gradient channels][input channels] of one row of taps.
// `gradients` points at the chunk's first pixel of the first channel, `inputs` at the pair that the
// first tap reads for that pixel.
class PixelProducts {
 public:
  explicit PixelProducts(int taps) : taps_(taps) {
#if defined(EFFICIENTAD_TILES)
    TileShapes shapes;
    for (int tile = 0; tile < kTiles; ++tile) shapes.set(tile, kTileRows, kTileBytes);
    configure_tiles(shapes);
#endif
  }
  PixelProducts(const PixelProducts&) = delete;
  PixelProducts& operator=(const PixelProducts&) = delete;
  ~PixelProducts() {
#if defined(EFFICIENTAD_TILES)
    release_tiles();
#endif
  }

  void add(const BFloat16* gradients, const BFloat16* inputs, float* sums) const {
    switch (taps_) {
      case 1:
        add<1>(gradients, inputs, sums);
        break;
      case 2:
        add<2>(gradients, inputs, sums);
        break;
      case 3:
        add<3>(gradients, inputs, sums);
        break;
      default:
        add<4>(gradients, inputs, sums);
    }
  }

 private:
#if defined(EFFICIENTAD_TILES)
  static_assert(kProductChannels == kTileRows && 4 * kProductChannels == kTileBytes);

  // Two tiles of gradients, from each pixel and from the one before, and two of inputs, whose rows
  // are a pair apart, are all that four taps need.
  template <int taps>
  static void add(const BFloat16* gradients, const BFloat16* inputs, float* sums) {
    constexpr std::int64_t kTilePixels = kTileBytes / sizeof(BFloat16);
    constexpr std::int64_t kPitch = kGradientPitch * sizeof(BFloat16);
    load_tile<0>(sums, kTileBytes);
    if constexpr (taps > 1) load_tile<1>(sums + kProductSums, kTileBytes);
    if constexpr (taps > 2) load_tile<2>(sums + 2 * kProductSums, kTileBytes);
    if constexpr (taps > 3) load_tile<3>(sums + 3 * kProductSums, kTileBytes);
    for (std::int64_t pixel = 0; pixel < kChunkPixels; pixel += kTilePixels) {
      load_tile<4>(gradients + pixel, kPitch);
      load_tile<6>(inputs + pixel * kPixelNumbers, kTileBytes);
      multiply_tiles<0, 4, 6>(BFloat16{});
      if constexpr (taps > 1) {
        load_tile<5>(gradients + pixel - 1, kPitch);
        multiply_tiles<1, 5, 6>(BFloat16{});
      }
      if constexpr (taps > 2) {
        load_tile<7>(inputs + (pixel + 2) * kPixelNumbers, kTileBytes);
        multiply_tiles<2, 4, 7>(BFloat16{});
      }
      if constexpr (taps > 3) multiply_tiles<3, 5, 7>(BFloat16{});
      if (pixel % (4 * kTilePixels) == 0) keep_vectors_awake();
    }
    store_tile<0>(sums, kTileBytes);
    if constexpr (taps > 1) store_tile<1>(sums + kProductSums, kTileBytes);
    if constexpr (taps > 2) store_tile<2>(sums + 2 * kProductSums, kTileBytes);
    if constexpr (taps > 3) store_tile<3>(sums + 3 * kProductSums, kTileBytes);
  }
#else
  template <int taps>
  static void add(const BFloat16* gradients, const BFloat16* inputs, float* sums) {
    for (int tap = 0; tap < taps; ++tap) {
      for (std::int64_t channel = 0; channel < kProductChannels; ++channel) {
        add_channel(gradients + channel * kGradientPitch - tap % 2,
                    inputs + (tap - tap % 2) * kPixelNumbers, sums);
        sums += kProductChannels;
      }
    }
  }

  static void add_channel(const BFloat16* gradients, const BFloat16* inputs, float* sums) {
    constexpr std::int64_t kVectors = kProductChannels / kLanes<float>;
    Vector<float> totals[kVectors];
    for (std::int64_t v = 0; v < kVectors; ++v) totals[v] = load(sums + v * kLanes<float>);
    for (std::int64_t pixel = 0; pixel < kChunkPixels; pixel += 2) {
      for (std::int64_t v = 0; v < kVectors; ++v) {
        add_pair(totals[v], gradients + pixel,
                 inputs + pixel * kPixelNumbers + 2 * v * kLanes<float>);
      }
    }
    for (std::int64_t v = 0; v < kVectors; ++v) store(sums + v * kLanes<float>, totals[v]);
  }

  static void add_pair(Vector<float>& total, const BFloat16* gradients, const BFloat16* inputs) {
#if defined(__AVX512BF16__)
    using Method = Multiplier<BFloat16>;
    Method::add(total, Method::spread(gradients), Method::weights(inputs));
#else
    Pairs pairs;
    std::memcpy(&pairs, inputs, sizeof(pairs));
    total +=
        broadcast(bfloat16_to_float(gradients[0])) * reinterpret_cast<Vector<float> >(pairs << 16);
    total += broadcast(bfloat16_to_float(gradients[1])) *
             reinterpret_cast<Vector<float> >(pairs & 0xffff0000u);
#endif
  }
#endif

  const int taps_;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
