// From a run-time element type to a compile-time one.
#pragma once

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad {

// Calls function(Scalar{}), a lambda, with the floating type that `type` names.
template <class Function>
inline Status for_floating_type(ScalarType type, const Function& function) {
  switch (type) {
    case ScalarType::float64:
      return function(double{});
    case ScalarType::float32:
      return function(float{});
    case ScalarType::float16:
      return function(Half{});
    case ScalarType::bfloat16:
      return function(BFloat16{});
    default:
      return "the element type is not a floating type";
  }
}

}  // namespace efficientad
