// The rectifier, of a number or of a vector.
#pragma once

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

template <class Number>
inline Number relu(Number value) {
  // A NaN passes, as it does in torch.
  return value < 0 ? Number{} : value;
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
