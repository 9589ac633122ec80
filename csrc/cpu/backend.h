// The CPU backends that were built, and the one that suits this processor best.
#pragma once

#include "efficientad/backend.h"

namespace efficientad::cpu {

struct InstructionSet {
  const char* name;
  bool supported;  // by this processor and its operating system
  const Backend* backend;
};

inline constexpr int kMaximumInstructionSets = 6;

// Ascending in speed; the last supported one is the best. `portable` always comes first.
struct InstructionSets {
  InstructionSet entries[kMaximumInstructionSets];
  int count;
};

InstructionSets instruction_sets();

}  // namespace efficientad::cpu
