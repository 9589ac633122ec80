// The 128-byte swizzle: where a byte of a tile lies in shared memory.
#pragma once

#include <cstddef>

namespace efficientad::emulation {

inline constexpr std::size_t kChunkBytes = 16;

// The chunk's number in its row of 128 bytes, address bits 4-6, is changed by the row's number in
// its 1024 bytes, bits 7-9.
constexpr std::size_t swizzled(std::size_t address) { return address ^ (address >> 7 & 7) << 4; }

}  // namespace efficientad::emulation
