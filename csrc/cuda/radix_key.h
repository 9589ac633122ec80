// Unsigned integers in the order of floating-point numbers.
#pragma once

#include <cstdint>

#include "cuda/convert.h"
#include "cuda/device.h"

namespace efficientad::cuda {

// A number's bits with the sign bit flipped, or all bits if it is negative, ascend with the number
// (and -0 comes just before 0). NaN of either sign becomes the largest key, which no number has.
template <class Bits, class Word>
struct OrderedBits {
  using Key = Word;
  static constexpr int kBits = static_cast<int>(8 * sizeof(Bits));
  static constexpr Word kSign = Word{1} << (kBits - 1);
  static constexpr Word kAll = static_cast<Word>(~Word{0}) >> (8 * sizeof(Word) - kBits);
  static constexpr Word kNan = kAll;

  EFFICIENTAD_DEVICE static Word encode(Word bits, Word infinity) {
    if ((bits & ~kSign) > infinity) return kNan;
    return bits ^ (bits & kSign ? kAll : kSign);
  }
  EFFICIENTAD_DEVICE static Word decode(Word key) { return key ^ (key & kSign ? kSign : kAll); }
};

// of(value) gives the key, value(key) the number back. A key uses the kBits low bits of Key.
template <class T>
struct RadixKey;

template <>
struct RadixKey<double> : OrderedBits<std::uint64_t, std::uint64_t> {
  EFFICIENTAD_DEVICE static Key of(double value) {
    return encode(bit_copy<std::uint64_t>(value), 0x7ff0000000000000u);
  }
  EFFICIENTAD_DEVICE static double value(Key key) { return bit_copy<double>(decode(key)); }
};

template <>
struct RadixKey<float> : OrderedBits<std::uint32_t, std::uint32_t> {
  EFFICIENTAD_DEVICE static Key of(float value) {
    return encode(bit_copy<std::uint32_t>(value), 0x7f800000u);
  }
  EFFICIENTAD_DEVICE static float value(Key key) { return bit_copy<float>(decode(key)); }
};

template <>
struct RadixKey<Half> : OrderedBits<std::uint16_t, std::uint32_t> {
  EFFICIENTAD_DEVICE static Key of(Half value) { return encode(value.bits, 0x7c00u); }
  EFFICIENTAD_DEVICE static Half value(Key key) {
    return {static_cast<std::uint16_t>(decode(key))};
  }
};

template <>
struct RadixKey<BFloat16> : OrderedBits<std::uint16_t, std::uint32_t> {
  EFFICIENTAD_DEVICE static Key of(BFloat16 value) { return encode(value.bits, 0x7f80u); }
  EFFICIENTAD_DEVICE static BFloat16 value(Key key) {
    return {static_cast<std::uint16_t>(decode(key))};
  }
};

}  // namespace efficientad::cuda
