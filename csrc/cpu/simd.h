// Vectors of the instruction set that a translation unit is compiled for.
//
// Every kernel file is compiled once per instruction set, in a namespace of its own
// (EFFICIENTAD_INSTRUCTION_SET: portable, avx2, avx512; convolutions also avx512_bf16, amx_bf16 and
// amx_fp16), and csrc/cpu/backend.cpp picks one at run time. Code here must not leave that
// namespace: an inline function shared between two instruction sets would be merged by the linker,
// and the survivor might not run on the processor at hand. For the same reason kernels use no
// container or algorithm of the standard library.
#pragma once

#include <cstdint>
#include <cstring>

#include "efficientad/scalar.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class Element, int bytes = kVectorBytes>
struct VectorType {
  typedef Element type __attribute__((vector_size(bytes)));
};
template <class Element>
using Vector = typename VectorType<Element>::type;

// The result of comparing two vectors: all bits of a lane set, or none.
template <class Element>
struct MaskElement;
template <>
struct MaskElement<float> {
  using type = std::int32_t;
};
template <>
struct MaskElement<double> {
  using type = std::int64_t;
};
template <class Element>
using Mask = Vector<typename MaskElement<Element>::type>;

template <class Element>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Element));

template <class Element>
inline Vector<Element> broadcast(Element value) {
  return value - Vector<Element>{};
}

// --- Loads widen to the accumulator type, stores round from it; neither needs alignment. ---

inline Vector<float> load(const float* source) {
  Vector<float> value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

inline Vector<double> load(const double* source) {
  Vector<double> value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

inline Vector<float> load(const Half* source) {
#if defined(__AVX512F__)
  // The zero-masked form: g++ 12 warns of the plain one's undefined vector.
  return _mm512_maskz_cvtph_ps(0xffff,
                               _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
#else
  Vector<float> value;
  for (int lane = 0; lane < kLanes<float>; ++lane) value[lane] = half_to_float(source[lane]);
  return value;
#endif
}

inline Vector<float> load(const BFloat16* source) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  // g++ 12 widens halves of the vector one by one where it is left to __builtin_convertvector.
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
  return reinterpret_cast<Vector<float>>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(packed), 16));
#else
  typename VectorType<std::uint16_t, kVectorBytes / 2>::type packed;
  std::memcpy(&packed, source, sizeof(packed));
  const Vector<std::uint32_t> bits = __builtin_convertvector(packed, Vector<std::uint32_t>) << 16;
  return reinterpret_cast<Vector<float>>(bits);
#endif
}

inline void store(float* destination, Vector<float> value) {
  std::memcpy(destination, &value, sizeof(value));
}

inline void store(double* destination, Vector<double> value) {
  std::memcpy(destination, &value, sizeof(value));
}

inline void store(Half* destination, Vector<float> value) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(destination),
                      _mm512_maskz_cvtps_ph(0xffff, value, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(destination),
                   _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int lane = 0; lane < kLanes<float>; ++lane) destination[lane] = float_to_half(value[lane]);
#endif
}

inline void store(BFloat16* destination, Vector<float> value) {
#if defined(__AVX512BF16__)
  const __m256bh packed = _mm512_cvtneps_pbh(value);  // takes subnormal numbers as zero
  std::memcpy(destination, &packed, sizeof(packed));
#else
  const Vector<std::uint32_t> bits = reinterpret_cast<Vector<std::uint32_t>>(value);
  const Vector<std::uint32_t> rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Vector<std::uint32_t> quiet_nan = (bits >> 16) | 0x40u;
  const Vector<std::uint32_t> result = value == value ? rounded : quiet_nan;
  const auto packed =
      __builtin_convertvector(result, typename VectorType<std::uint16_t, kVectorBytes / 2>::type);
  std::memcpy(destination, &packed, sizeof(packed));
#endif
}

#if defined(__AVX512F__)
// A cache line of numbers of two bytes, past the caches, which need not read it first.
// `destination` is aligned to it; fence_streams() comes before other threads read it.
template <class Scalar>
inline void stream_line(Scalar* destination, Vector<float> first, Vector<float> second) {
  __m256i halves[2];
  store(reinterpret_cast<Scalar*>(&halves[0]), first);
  store(reinterpret_cast<Scalar*>(&halves[1]), second);
  // The zero-masked form: g++ 12 warns of the plain one's undefined vector.
  const __m512i line =
      _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(halves[0]), halves[1], 1);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(destination), line);
}

inline void fence_streams() { _mm_sfence(); }
#else
inline void fence_streams() {}
#endif

// The first `count` lanes (0 <= count <= lanes); the others are zero, or are not stored.
template <class Scalar>
inline Vector<Accumulator<Scalar>> load_first(const Scalar* source, std::int64_t count) {
  Scalar padded[kLanes<Accumulator<Scalar>>] = {};
  std::memcpy(padded, source, static_cast<std::size_t>(count) * sizeof(Scalar));
  return load(padded);
}

template <class Scalar>
inline void store_first(Scalar* destination, Vector<Accumulator<Scalar>> value,
                        std::int64_t count) {
  Scalar padded[kLanes<Accumulator<Scalar>>];
  store(padded, value);
  std::memcpy(destination, padded, static_cast<std::size_t>(count) * sizeof(Scalar));
}

// --- One element at a time. ---

inline float load_one(const float* source) { return *source; }
inline double load_one(const double* source) { return *source; }
inline float load_one(const Half* source) { return load_first(source, 1)[0]; }
inline float load_one(const BFloat16* source) { return load_first(source, 1)[0]; }

inline void store_one(float* destination, float value) { *destination = value; }
inline void store_one(double* destination, double value) { *destination = value; }
template <class Scalar>
inline void store_one(Scalar* destination, float value) {
  store_first(destination, broadcast(value), 1);
}

// The same, quicker where `count` is mostly all of them.
template <class Scalar>
inline Vector<Accumulator<Scalar>> load_up_to(const Scalar* source, std::int64_t count) {
  return count == kLanes<Accumulator<Scalar>> ? load(source) : load_first(source, count);
}

template <class Scalar>
inline void store_up_to(Scalar* destination, Vector<Accumulator<Scalar>> value,
                        std::int64_t count) {
  if (count == kLanes<Accumulator<Scalar>>) {
    store(destination, value);
  } else {
    store_first(destination, value, count);
  }
}

// --- Across lanes. ---

// Lane i of the result is lane 2i + start of the two vectors laid end to end.
template <class Element>
inline Vector<Element> every_other_lane(Vector<Element> first, Vector<Element> second, int start) {
  Mask<Element> lanes;
  for (int lane = 0; lane < kLanes<Element>; ++lane) lanes[lane] = 2 * lane + start;
  return __builtin_shuffle(first, second, lanes);
}

// Each lane of the vector's first half (half 0) or second half (half 1) twice, side by side.
template <class Element>
inline Vector<Element> each_lane_twice(Vector<Element> value, int half) {
  Mask<Element> lanes;
  for (int lane = 0; lane < kLanes<Element>; ++lane) {
    lanes[lane] = (half * kLanes<Element> + lane) / 2;
  }
  return __builtin_shuffle(value, lanes);
}

// Adds the lanes `width` apart, then those half as far apart, and so on. A width known when
// compiled makes each exchange of lanes one instruction.
template <class Element, int width>
inline Vector<Element> fold_lanes(Vector<Element> value) {
  Mask<Element> lanes;
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes<Element>; ++lane) lanes[lane] = lane ^ width;
  value += __builtin_shuffle(value, lanes);
  if constexpr (width > 1) {
    return fold_lanes<Element, width / 2>(value);
  } else {
    return value;
  }
}

template <class Element>
inline Element sum_of_lanes(Vector<Element> value) {
  return fold_lanes<Element, kLanes<Element> / 2>(value)[0];
}

inline bool any(Mask<float> mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask), reinterpret_cast<__m512i>(mask)) !=
         0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#else
  const Vector<std::int64_t> wide = reinterpret_cast<Vector<std::int64_t>>(mask);
  return (wide[0] | wide[1]) != 0;
#endif
}

inline bool any(Mask<double> mask) { return any(reinterpret_cast<Mask<float>>(mask)); }

// Appends the lanes that are set, in order; the destination has room for all lanes.
inline float* append(float* destination, Mask<float> mask, Vector<float> value) {
#if defined(__AVX512F__)
  const __mmask16 selected =
      _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask), reinterpret_cast<__m512i>(mask));
  store(destination, _mm512_maskz_compress_ps(selected, value));
  return destination + __builtin_popcount(selected);
#else
  if (!any(mask)) return destination;
  for (int lane = 0; lane < kLanes<float>; ++lane) {
    if (mask[lane]) *destination++ = value[lane];
  }
  return destination;
#endif
}

inline double* append(double* destination, Mask<double> mask, Vector<double> value) {
  if (!any(mask)) return destination;
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    if (mask[lane]) *destination++ = value[lane];
  }
  return destination;
}

// --- Bit i stands for lane i. ---

inline std::uint32_t bits_of(Mask<float> mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
  return static_cast<std::uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#else
  std::uint32_t bits = 0;
  for (int lane = 0; lane < kLanes<float>; ++lane) bits |= (mask[lane] & 1u) << lane;
  return bits;
#endif
}

inline std::uint32_t bits_of(Mask<double> mask) {
#if defined(__AVX512F__)
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
  return static_cast<std::uint32_t>(_mm256_movemask_pd(reinterpret_cast<__m256d>(mask)));
#else
  std::uint32_t bits = 0;
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    bits |= static_cast<std::uint32_t>(mask[lane] & 1) << lane;
  }
  return bits;
#endif
}

// The lanes whose bits are set; the others are zero.
template <class Element>
inline Vector<Element> where_set(std::uint32_t bits, Vector<Element> value) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element) == 4) {
    return _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), value);
  } else {
    return _mm512_maskz_mov_pd(static_cast<__mmask8>(bits), value);
  }
#else
  using Lane = typename MaskElement<Element>::type;
  Mask<Element> own;
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes<Element>; ++lane) own[lane] = Lane{1} << lane;
  const Mask<Element> set = (broadcast(static_cast<Lane>(bits)) & own) != 0;
  return set ? value : Vector<Element>{};
#endif
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
