// Whether this processor has AMX, and the operating system lets this process use it.
#pragma once

namespace efficientad::cpu {

// The types that AMX multiplies here.
struct AmxTypes {
  bool bfloat16 = false;
  bool float16 = false;
};

// Asks the operating system for permission, which the process keeps; both are false without it.
AmxTypes amx_types();

}  // namespace efficientad::cpu
