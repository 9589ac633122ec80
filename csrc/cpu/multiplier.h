// How numbers of an element type are multiplied, and where they lie.
#pragma once

#include <cstdint>

#include "cpu/simd.h"
#include "efficientad/weight_layout.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// Inputs are multiplied as `Input`, weights as they are stored.
template <class Scalar>
struct Multiplier {
  static constexpr bool kOnTiles = false;
  using Input = Accumulator<Scalar>;
  using Factors = Vector<Input>;
  static constexpr int kInterleave = 1;

  static Factors weights(const Scalar* from) { return load(from); }
  static Factors spread(const Input* from) { return broadcast(*from); }
  static void add(Vector<Input>& sum, Factors input, Factors weight) { sum += input * weight; }
};

#if defined(EFFICIENTAD_TILES)
// On tiles (cpu/tiles.h), as they are and two neighbours of the reduction at a time.
template <class Scalar>
struct TileMultiplier {
  static constexpr bool kOnTiles = true;
  using Input = Scalar;
  static constexpr int kInterleave = 2;
};
template <>
struct Multiplier<BFloat16> : TileMultiplier<BFloat16> {};
#if EFFICIENTAD_TILES >= 2
template <>
struct Multiplier<Half> : TileMultiplier<Half> {};
#endif
#elif defined(__AVX512BF16__)
// A lane multiplies two neighbours of the reduction and adds both products to its sum.
template <>
struct Multiplier<BFloat16> {
  static constexpr bool kOnTiles = false;
  using Input = BFloat16;
  using Factors = __m512bh;
  static constexpr int kInterleave = 2;

  static Factors weights(const BFloat16* from) {
    return reinterpret_cast<Factors>(_mm512_loadu_si512(from));
  }
  static Factors spread(const BFloat16* from) {
    std::int32_t pair;
    std::memcpy(&pair, from, sizeof(pair));
    return reinterpret_cast<Factors>(_mm512_set1_epi32(pair));
  }
  static void add(Vector<float>& sum, Factors input, Factors weight) {
    sum = _mm512_dpbf16_ps(sum, input, weight);
  }
};
#endif

// Output channels of a panel of weights, and of the groups in which sums are kept. Tiles have sums
// for two panels: one pass over the input for each two leaves room for it in the second-level
// cache.
inline constexpr int kPanel = 16;
template <class Scalar>
inline constexpr int kGroup = Multiplier<Scalar>::kOnTiles ? 32 : 64;

template <class Scalar>
inline constexpr WeightLayout kWeightLayout = {kPanel, Multiplier<Scalar>::kInterleave};

// The reduction: from `count` distances behind where a pixel begins, each time `taps` runs of
// `length` numbers, `tap_pitch` numbers apart. The weights are in this order.
struct Reduction {
  const std::int64_t* offsets;
  std::int64_t count, taps, tap_pitch, length;
};

// Neighbouring pixels of an output row that are summed up together, at most: as many as have sums
// in the first-level cache. Those of vectors are a whole number of what is multiplied at once.
template <class Scalar>
inline constexpr std::int64_t kColumns = Multiplier<Scalar>::kOnTiles ? 32 : 24;

// What a few neighbouring pixels read, and the weights of their output channels.
template <class Scalar>
struct Operands {
  const typename Multiplier<Scalar>::Input* input;
  std::int64_t pixel_pitch;  // numbers from one pixel to the next
  const Scalar* weight;
  std::int64_t panel_pitch;    // numbers from one panel to the next
  std::int64_t row_pitch = 0;  // numbers from one output row to the next
};

// The sums of neighbouring pixels and a group of output channels: where they begin, and where they
// are left. Those of a second output row are kColumns<Scalar> pixels further on.
template <class Scalar>
struct Sums {
  const Accumulator<Scalar>* from;
  std::int64_t from_pitch;  // numbers from one pixel to the next; 0 where all begin alike
  Accumulator<Scalar>* to;  // [pixels][kGroup<Scalar>]

  // Those from this pixel and this panel on.
  Sums part(std::int64_t pixel, std::int64_t panel) const {
    const std::int64_t channel = panel * kPanel;
    return {from + pixel * from_pitch + channel, from_pitch, to + pixel * kGroup<Scalar> + channel};
  }
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
