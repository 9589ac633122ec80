// How much a core's own cache holds.
#pragma once

#include <cstdint>

namespace efficientad::cpu {

// Bytes of the second-level cache; 1 MiB where the system does not tell.
std::int64_t second_level_cache();

}  // namespace efficientad::cpu
