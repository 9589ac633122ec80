// The device primitives of cuda/device.h on the emulated GPU.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>

#include "cuda/launch_shape.h"
#include "emulation/block.h"
#include "emulation/launch.h"

#define EFFICIENTAD_DEVICE inline
#define EFFICIENTAD_KERNEL(threads) void

namespace efficientad::cuda {

using emulation::Site;

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
  packed = emulation::Block::current().exchange(packed, site)[static_cast<std::size_t>(source)];
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

// Throws unless [index, index + width) lies in an array of `count` elements.
inline void check_bounds(const char* memory, std::int64_t index, std::int64_t width,
                         std::int64_t count, Site site) {
  if (index >= 0 && index + width <= count) return;
  throw emulation::Fault(std::string(memory) + " memory is accessed out of bounds at " +
                         site.text() + ": element " + std::to_string(index) + " of " +
                         std::to_string(count));
}

template <class T>
class SharedArray {
 public:
  static_assert(std::is_trivially_copyable_v<T>);

  SharedArray(std::size_t offset, std::size_t count) : offset_(offset), count_(count) {}

  T load(std::int64_t index, Site site = Site::here()) const {
    return read(address(emulation::AccessKind::read, index, site));
  }
  void store(std::int64_t index, T value, Site site = Site::here()) const {
    std::memcpy(address(emulation::AccessKind::write, index, site), &value, sizeof(T));
  }
  void atomic_add(std::int64_t index, T value, Site site = Site::here()) const {
    unsigned char* const place = address(emulation::AccessKind::atomic, index, site);
    value += read(place);
    std::memcpy(place, &value, sizeof(T));
  }

 private:
  unsigned char* address(emulation::AccessKind kind, std::int64_t index, Site site) const {
    check_bounds("shared", index, 1, static_cast<std::int64_t>(count_), site);
    emulation::Block& block = emulation::Block::current();
    const std::size_t place = offset_ + static_cast<std::size_t>(index) * sizeof(T);
    block.shared_memory().record(kind, place, sizeof(T), block.now(), site);
    return block.shared_memory().data() + place;
  }
  static T read(const unsigned char* place) {
    T value;
    std::memcpy(&value, place, sizeof(T));
    return value;
  }

  std::size_t offset_, count_;
};

class SharedMemory {
 public:
  template <class T>
  SharedArray<T> array(std::size_t count, Site site = Site::here()) {
    const std::size_t offset = used_;
    used_ += shared_bytes<T>(count);
    if (used_ > emulation::Block::current().shape().shared_bytes) {
      throw emulation::Fault("more shared memory than the launch provides is taken at " +
                             site.text());
    }
    return SharedArray<T>(offset, count);
  }

 private:
  std::size_t used_ = 0;
};

template <class T>
class Global {
 public:
  using Value = std::remove_const_t<T>;

  Global() = default;
  Global(T* data, std::int64_t count) : data_(data), count_(count) {}

  Value load(std::int64_t index, Site site = Site::here()) const {
    return load_vector<1>(index, site).values[0];
  }
  void store(std::int64_t index, Value value, Site site = Site::here()) const {
    store_vector<1>(index, {{value}}, site);
  }
  void atomic_add(std::int64_t index, Value value, Site site = Site::here()) const {
    store(index, static_cast<Value>(load(index, site) + value), site);
  }

  template <int Width>
  Vector<Value, Width> load_vector(std::int64_t index, Site site = Site::here()) const {
    Vector<Value, Width> vector;
    std::memcpy(&vector, address<Width>(index, site), sizeof(vector));
    return vector;
  }
  template <int Width>
  void store_vector(std::int64_t index, const Vector<Value, Width>& vector,
                    Site site = Site::here()) const {
    std::memcpy(address<Width>(index, site), &vector, sizeof(vector));
  }

 private:
  template <int Width>
  T* address(std::int64_t index, Site site) const {
    check_bounds("global", index, Width, count_, site);
    if (reinterpret_cast<std::uintptr_t>(data_ + index) % sizeof(Vector<Value, Width>) != 0) {
      throw emulation::Fault("global memory is accessed at a misaligned address at " + site.text());
    }
    return data_ + index;
  }

  T* data_ = nullptr;
  std::int64_t count_ = 0;
};

template <class... Parameters>
Status launch(void (*kernel)(Parameters...), const LaunchShape& shape, const Execution&,
              const typename Exactly<Parameters>::type&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...));
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "CUDA's limit for kernel parameters");
  return emulation::run_grid(shape, [&] { kernel(arguments...); });
}

}  // namespace efficientad::cuda
