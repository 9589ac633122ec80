#include "cpu/backend.h"

namespace efficientad {

namespace portable {
const Backend& backend();
}
#if defined(EFFICIENTAD_X86_64)
namespace avx2 {
const Backend& backend();
}
namespace avx512 {
const Backend& backend();
}
#endif

namespace cpu {

InstructionSets instruction_sets() {
#if defined(EFFICIENTAD_X86_64)
  // __builtin_cpu_supports also asks the operating system whether it saves the registers.
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return {{{"portable", true, &portable::backend()},
           {"avx2", has_avx2, has_avx2 ? &avx2::backend() : nullptr},
           {"avx512", has_avx512, has_avx512 ? &avx512::backend() : nullptr}},
          3};
#else
  return {{{"portable", true, &portable::backend()}}, 1};
#endif
}

}  // namespace cpu
}  // namespace efficientad
