// The arithmetic of convolutions: sums of a few pixels and output channels, kept in registers over
// the whole reduction.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/multiplier.h"
#include "cpu/simd.h"
#if defined(EFFICIENTAD_TILES)
#include "cpu/multiply_tiles.h"
#endif

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// As many panels and pixels as fill the registers, beside a vector of weights for each panel's part
// and an input.
#if defined(__AVX512F__)
inline constexpr int kRegisters = 32, kWantedVectors = 4;
#else
inline constexpr int kRegisters = 16, kWantedVectors = 2;
#endif
template <class Number>
inline constexpr int kPanelVectors = kPanel / kLanes<Number>;
template <class Number>
inline constexpr int kPanelsAtOnce =
    kWantedVectors > kPanelVectors<Number> ? kWantedVectors / kPanelVectors<Number> : 1;
template <class Number>
inline constexpr int kVectorsAtOnce = kPanelsAtOnce<Number> * kPanelVectors<Number>;
template <class Number>
inline constexpr int kPixelsAtOnce =
    kRegisters / kVectorsAtOnce<Number> > 2
        ? (kRegisters - kVectorsAtOnce<Number> - 1) / kVectorsAtOnce<Number>
        : 1;

// Sums and the products of the reduction, for kPixels pixels and kPanelsAtOnce panels. The order of
// a sum does not depend on how many pixels there are.
// On its own, not inlined: among other code g++ 12 runs out of AVX2's registers, and half of the
// sums go through memory.
template <int kPixels, class Scalar>
[[gnu::noinline]] void multiply_add(const Operands<Scalar>& operands, const Reduction& reduction,
                                    const Sums<Scalar>& sums) {
  using Number = Accumulator<Scalar>;
  using Method = Multiplier<Scalar>;
  constexpr int kVectors = kVectorsAtOnce<Number>;
  Vector<Number> totals[kPixels][kVectors];
#pragma GCC unroll 8
  for (int pixel = 0; pixel < kPixels; ++pixel) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      totals[pixel][vector] = load(sums.from + pixel * sums.from_pitch + vector * kLanes<Number>);
    }
  }
  const Scalar* weight = operands.weight;
  const std::int64_t pitch = operands.pixel_pitch;
  for (std::int64_t index = 0; index < reduction.count; ++index) {
    const typename Method::Input* input = operands.input + reduction.offsets[index];
    for (std::int64_t tap = 0; tap < reduction.taps; ++tap) {
      for (std::int64_t k = 0; k < reduction.length; k += Method::kInterleave) {
        typename Method::Factors factors[kVectors];
#pragma GCC unroll 8
        for (int vector = 0; vector < kVectors; ++vector) {
          factors[vector] = Method::weights(
              weight + vector / kPanelVectors<Number> * operands.panel_pitch +
              vector % kPanelVectors<Number> * kLanes<Number> * Method::kInterleave);
        }
        weight += kPanel * Method::kInterleave;
#pragma GCC unroll 8
        for (int pixel = 0; pixel < kPixels; ++pixel) {
          const typename Method::Factors spread = Method::spread(input + pixel * pitch + k);
#pragma GCC unroll 8
          for (int vector = 0; vector < kVectors; ++vector) {
            Method::add(totals[pixel][vector], spread, factors[vector]);
          }
        }
      }
      input += reduction.tap_pitch;
    }
  }
#pragma GCC unroll 8
  for (int pixel = 0; pixel < kPixels; ++pixel) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      store(sums.to + pixel * kGroup<Scalar> + vector * kLanes<Number>, totals[pixel][vector]);
    }
  }
}

// The same for `pixels` pixels, at most kPixels.
template <int kPixels, class Scalar>
inline void multiply_add_up_to(std::int64_t pixels, const Operands<Scalar>& operands,
                               const Reduction& reduction, const Sums<Scalar>& sums) {
  if (pixels == kPixels) {
    multiply_add<kPixels>(operands, reduction, sums);
  } else if constexpr (kPixels > 1) {
    multiply_add_up_to<kPixels - 1>(pixels, operands, reduction, sums);
  }
}

// The products of the reduction for pixels of `rows` output rows and all output channels of a
// group, added to what the sums begin with.
template <class Scalar>
class VectorMultiplication {
 public:
  using Number = Accumulator<Scalar>;

  static constexpr std::int64_t kRows = 1;  // that are best summed up together

  void add(std::int64_t rows, std::int64_t pixels, const Operands<Scalar>& operands,
           const Reduction& reduction, const Sums<Scalar>& sums) {
    for (std::int64_t row = 0; row < rows; ++row) {
      Operands<Scalar> part = operands;
      part.input += row * operands.row_pitch;
      add(pixels, part, reduction, sums.part(row * kColumns<Scalar>, 0));
    }
  }

  void add(std::int64_t pixels, const Operands<Scalar>& operands, const Reduction& reduction,
           const Sums<Scalar>& sums) {
    constexpr int kPixels = kPixelsAtOnce<Number>, kPanels = kPanelsAtOnce<Number>;
    for (int panel = 0; panel < kGroup<Scalar> / kPanel; panel += kPanels) {
      Operands<Scalar> part = operands;
      part.weight += panel * operands.panel_pitch;
      for (std::int64_t pixel = 0; pixel < pixels; pixel += kPixels) {
        part.input = operands.input + pixel * operands.pixel_pitch;
        const std::int64_t left = pixels - pixel;
        multiply_add_up_to<kPixels>(left < kPixels ? left : kPixels, part, reduction,
                                    sums.part(pixel, panel));
      }
    }
  }
};

#if defined(EFFICIENTAD_TILES)
template <class Scalar>
using Multiplication = std::conditional_t<Multiplier<Scalar>::kOnTiles, TileMultiplication<Scalar>,
                                          VectorMultiplication<Scalar>>;
#else
template <class Scalar>
using Multiplication = VectorMultiplication<Scalar>;
#endif

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
