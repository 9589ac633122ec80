#include "cpu/cache.h"

#if defined(__unix__)
#include <unistd.h>
#endif

namespace efficientad::cpu {
namespace {

std::int64_t told_by_system() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  return sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  return 0;
#endif
}

}  // namespace

std::int64_t second_level_cache() {
  static const std::int64_t told = told_by_system();
  return told > 0 ? told : std::int64_t{1} << 20;
}

}  // namespace efficientad::cpu
