// Shared and global memory of the emulated GPU: every access is checked.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>

#include "cuda/launch_shape.h"
#include "emulation/block.h"

namespace efficientad::cuda {

using emulation::Site;

// Throws unless [index, index + width) lies in an array of `count` elements.
inline void check_bounds(const char* memory, std::int64_t index, std::int64_t width,
                         std::int64_t count, Site site) {
  if (index >= 0 && index + width <= count) return;
  throw emulation::Fault(std::string(memory) + " memory is accessed out of bounds at " +
                         site.text() + ": element " + std::to_string(index) + " of " +
                         std::to_string(count));
}

inline void check_alignment(const char* memory, std::uintptr_t address, std::size_t alignment,
                            Site site) {
  if (address % alignment == 0) return;
  throw emulation::Fault(std::string(memory) + " memory is accessed at a misaligned address at " +
                         site.text());
}

template <class T>
class SharedArray {
 public:
  static_assert(std::is_trivially_copyable_v<T>);

  SharedArray(std::size_t offset, std::size_t count) : offset_(offset), count_(count) {}

  T load(std::int64_t index, Site site = Site::here()) const { return read<T>(index, 1, site); }
  void store(std::int64_t index, T value, Site site = Site::here()) const {
    write(index, 1, value, site);
  }
  void atomic_add(std::int64_t index, T value, Site site = Site::here()) const {
    unsigned char* const place =
        accessed(emulation::AccessKind::atomic, index, 1, alignof(T), site);
    T sum;
    std::memcpy(&sum, place, sizeof(T));
    sum += value;
    std::memcpy(place, &sum, sizeof(T));
  }

  template <int Width>
  Vector<T, Width> load_vector(std::int64_t index, Site site = Site::here()) const {
    return read<Vector<T, Width>>(index, Width, site);
  }
  template <int Width>
  void store_vector(std::int64_t index, const Vector<T, Width>& vector,
                    Site site = Site::here()) const {
    write(index, Width, vector, site);
  }

  // Where [index, index + width) lies in the block's shared memory, at a multiple of `alignment`.
  std::size_t offset(std::int64_t index, std::int64_t width, std::size_t alignment,
                     Site site) const {
    check_bounds("shared", index, width, static_cast<std::int64_t>(count_), site);
    const std::size_t place = offset_ + static_cast<std::size_t>(index) * sizeof(T);
    check_alignment("shared", place, alignment, site);
    return place;
  }

 private:
  template <class Value>
  Value read(std::int64_t index, std::int64_t width, Site site) const {
    Value value;
    std::memcpy(&value, accessed(emulation::AccessKind::read, index, width, alignof(Value), site),
                sizeof(Value));
    return value;
  }
  template <class Value>
  void write(std::int64_t index, std::int64_t width, const Value& value, Site site) const {
    std::memcpy(accessed(emulation::AccessKind::write, index, width, alignof(Value), site), &value,
                sizeof(Value));
  }
  unsigned char* accessed(emulation::AccessKind kind, std::int64_t index, std::int64_t width,
                          std::size_t alignment, Site site) const {
    emulation::Block& block = emulation::Block::current();
    const std::size_t place = offset(index, width, alignment, site);
    block.record(kind, place, static_cast<std::size_t>(width) * sizeof(T), site);
    return block.memory().at(place);
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
    std::memcpy(&vector, address(index, Width, sizeof(vector), site), sizeof(vector));
    return vector;
  }
  template <int Width>
  void store_vector(std::int64_t index, const Vector<Value, Width>& vector,
                    Site site = Site::here()) const {
    std::memcpy(address(index, Width, sizeof(vector), site), &vector, sizeof(vector));
  }

  // Of [index, index + width), at a multiple of `alignment`.
  T* address(std::int64_t index, std::int64_t width, std::size_t alignment, Site site) const {
    check_bounds("global", index, width, count_, site);
    check_alignment("global", reinterpret_cast<std::uintptr_t>(data_ + index), alignment, site);
    return data_ + index;
  }

 private:
  T* data_ = nullptr;
  std::int64_t count_ = 0;
};

}  // namespace efficientad::cuda
