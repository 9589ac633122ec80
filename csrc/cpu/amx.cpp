#include "cpu/amx.h"

#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace efficientad::cpu {

#if defined(__linux__) && defined(__x86_64__)
namespace {

constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr int kTileData = 18;               // the state component of the tiles' contents

constexpr unsigned kHasBfloat16 = 1u << 22;  // leaf 7.0, edx
constexpr unsigned kHasTiles = 1u << 24;     // leaf 7.0, edx
constexpr unsigned kHasFloat16 = 1u << 21;   // leaf 7.1, eax

}  // namespace

AmxTypes amx_types() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return {};
  const unsigned subleaves = eax;
  if ((edx & kHasTiles) == 0 || syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) {
    return {};
  }
  AmxTypes types;
  types.bfloat16 = (edx & kHasBfloat16) != 0;
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) {
    types.float16 = (eax & kHasFloat16) != 0;
  }
  return types;
}

#else

AmxTypes amx_types() { return {}; }

#endif

}  // namespace efficientad::cpu
