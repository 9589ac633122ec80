// Offsets into one block of memory.
#pragma once

#include <cstdint>

namespace efficientad::engine {

// Every array starts at a multiple of this: more than any load, tensor map or cache line wants.
inline constexpr std::int64_t kAlignment = 1024;

class Arena {
 public:
  // The offset of an array of so many bytes.
  std::int64_t add(std::int64_t bytes) {
    const std::int64_t offset = bytes_;
    bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }

  std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
};

}  // namespace efficientad::engine
