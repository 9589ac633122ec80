// The device primitives of cuda/device.h on the emulated GPU.
#pragma once

// As nvcc does, for every kernel.
#include <math.h>

#include <cstring>
#include <type_traits>

#include "cuda/launch_shape.h"
#include "emulation/arrays.h"
#include "emulation/block.h"
#include "emulation/launch.h"
#include "emulation/matrices.h"

#define EFFICIENTAD_DEVICE inline
#define EFFICIENTAD_KERNEL(threads) void
#define EFFICIENTAD_GRID_CONSTANT

namespace efficientad::cuda {

inline std::uint32_t thread_index() { return emulation::Block::current().thread(); }
inline std::uint32_t block_threads() { return emulation::Block::current().shape().threads; }
inline Extent block_index() { return emulation::Block::current().index(); }
inline Extent grid_blocks() { return emulation::Block::current().shape().grid; }

inline void barrier(Site site = Site::here()) { emulation::Block::current().barrier(site); }
inline void warp_barrier(Site site = Site::here()) {
  emulation::Block::current().warp_barrier(site);
}

// The value that the lane `source` brings to this warp operation.
template <class T>
T shuffle(T value, int source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t packed = 0;
  std::memcpy(&packed, &value, sizeof(T));
  packed = emulation::Block::current().shuffle(packed, source, site);
  std::memcpy(&value, &packed, sizeof(T));
  return value;
}

template <class T>
T shuffle_xor(T value, int lanes, Site site = Site::here()) {
  const int lane = static_cast<int>(thread_index() % kWarpSize);
  return shuffle(value, lane ^ lanes, site);
}

template <class T>
T shuffle_up(T value, int lanes, Site site = Site::here()) {
  const int lane = static_cast<int>(thread_index() % kWarpSize);
  return shuffle(value, lane < lanes ? lane : lane - lanes, site);
}

template <class T>
void copy_async(const SharedArray<T>& to, std::int64_t index, const Global<const T>& from,
                std::int64_t from_index, bool present, Site site = Site::here()) {
  constexpr std::int64_t kWidth = emulation::kCopyBytes / sizeof(T);
  const std::size_t offset = to.offset(index, kWidth, emulation::kCopyBytes, site);
  const void* source =
      present ? from.address(from_index, kWidth, emulation::kCopyBytes, site) : nullptr;
  emulation::Block::current().copy_async(offset, source, site);
}

inline void copy_async_commit() { emulation::Block::current().copy_async_commit(); }

template <int Pending>
void copy_async_wait() {
  emulation::Block::current().copy_async_wait(Pending);
}

template <class T>
Vector<std::uint32_t, 4> load_matrices(const SharedArray<T>& array, std::int64_t index,
                                       Site site = Site::here()) {
  const std::size_t row =
      array.offset(index, emulation::kMatrixRowBytes / sizeof(T), emulation::kMatrixRowBytes, site);
  return emulation::load_matrices(row, site);
}

template <class T>
void multiply_add(float (&sum)[4], const Vector<std::uint32_t, 4>& a, std::uint32_t b0,
                  std::uint32_t b1, Site site = Site::here()) {
  emulation::multiply_add(emulation::matrix_type(T{}), sum, a, b0, b1, site);
}

inline float round_to_tf32(float value) { return emulation::round_to_tf32(value); }

template <class... Parameters>
Status launch(void (*kernel)(Parameters...), const LaunchShape& shape, const Execution&,
              const typename Exactly<Parameters>::type&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...));
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "CUDA's limit for kernel parameters");
  return emulation::run_grid(shape, [&] { kernel(arguments...); });
}

inline Status device_properties(DeviceProperties& properties) {
  properties = emulation::device_properties();
  return kOk;
}

}  // namespace efficientad::cuda
