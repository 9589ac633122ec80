// What host code says about a launch, the same for a GPU and for the emulation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace efficientad::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr std::uint32_t kWholeWarp = 0xffffffffu;

// The shared memory that every block can get, and the most that one of any GPU can (compute
// capability 9.0; 8.0 has 163 KiB, 8.6 and 8.9 have 99 KiB).
inline constexpr std::size_t kDefaultSharedBytes = 48 * 1024;
inline constexpr std::size_t kMaximumSharedBytes = 227 * 1024;

// Of the launch's shared memory, as swizzled tiles need it, and of every array in it.
inline constexpr std::size_t kSharedMemoryAlignment = 1024;
inline constexpr std::size_t kSharedAlignment = 16;

// Kernels step from tile to tile by the size of their grid. The emulation allows few blocks, so
// that they do so for small problems, too.
#ifdef EFFICIENTAD_EMULATION
inline constexpr std::int64_t kMaximumBlocks = 6;
#else
inline constexpr std::int64_t kMaximumBlocks = 0x7fffffff;
#endif

struct Extent {
  std::uint32_t x = 1, y = 1, z = 1;
};

// Blocks are one-dimensional and consist of whole warps.
struct LaunchShape {
  Extent grid;
  std::uint32_t threads = kWarpSize;
  std::size_t shared_bytes = 0;
};

struct DeviceProperties {
  int compute_capability;  // 10 times the major number and the minor one: 80, 86, 89, 90
  int multiprocessors;
};

// `Width` elements that one instruction moves; their address must be a multiple of their size.
template <class T, int Width>
struct alignas(sizeof(T) * Width) Vector {
  T values[Width];
};

// The share of a launch's shared_bytes that SharedMemory::array<T>(count) takes.
template <class T>
constexpr std::size_t shared_bytes(std::size_t count) {
  return (count * sizeof(T) + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
}

// Keeps a parameter out of template argument deduction.
template <class T>
struct Exactly {
  using type = T;
};

}  // namespace efficientad::cuda
