// The types that tensor cores multiply: float16, bfloat16, and float32 as tf32.
#pragma once

#include "cuda/convert.h"
#include "cuda/device.h"
#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad::cuda {

// A value as it is stored to be multiplied.
template <class T>
EFFICIENTAD_DEVICE T as_operand(float value) {
  return narrow<T>(value);
}
template <>
EFFICIENTAD_DEVICE float as_operand<float>(float value) {
  return round_to_tf32(value);
}

// Calls function(Scalar{}) with the operand type that `type` names.
template <class Function>
Status for_operand_type(ScalarType type, const Function& function) {
  switch (type) {
    case ScalarType::float16:
      return function(Half{});
    case ScalarType::bfloat16:
      return function(BFloat16{});
    case ScalarType::float32:
      return function(float{});
    default:
      return "tensor cores multiply float16, bfloat16 and float32 (as tf32)";
  }
}

}  // namespace efficientad::cuda
