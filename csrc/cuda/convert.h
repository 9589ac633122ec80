// Conversion between element types and the types in which kernels calculate.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/device.h"
#include "efficientad/scalar.h"

#ifndef EFFICIENTAD_EMULATION
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace efficientad::cuda {

// The same bits, seen as another type of the same size.
template <class To, class From>
EFFICIENTAD_DEVICE To bit_copy(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}

EFFICIENTAD_DEVICE double widen(double value) { return value; }
EFFICIENTAD_DEVICE float widen(float value) { return value; }
EFFICIENTAD_DEVICE float widen(std::uint8_t value) { return value; }
EFFICIENTAD_DEVICE float widen(std::uint16_t value) { return value; }

// narrow<Scalar>(value) rounds to nearest even.
template <class Scalar>
EFFICIENTAD_DEVICE Scalar narrow(Accumulator<Scalar> value) {
  return value;
}

#ifdef EFFICIENTAD_EMULATION

inline float widen(Half value) { return half_to_float(value); }
inline float widen(BFloat16 value) { return bfloat16_to_float(value); }

template <>
inline Half narrow<Half>(float value) {
  return float_to_half(value);
}
template <>
inline BFloat16 narrow<BFloat16>(float value) {
  return float_to_bfloat16(value);
}

#else

EFFICIENTAD_DEVICE float widen(Half value) { return __half2float(__ushort_as_half(value.bits)); }
EFFICIENTAD_DEVICE float widen(BFloat16 value) {
  return __bfloat162float(__ushort_as_bfloat16(value.bits));
}

template <>
EFFICIENTAD_DEVICE Half narrow<Half>(float value) {
  return {__half_as_ushort(__float2half_rn(value))};
}
template <>
EFFICIENTAD_DEVICE BFloat16 narrow<BFloat16>(float value) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}

#endif

}  // namespace efficientad::cuda
