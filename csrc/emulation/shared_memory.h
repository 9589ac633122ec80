// The shared memory of an emulated block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda/launch_shape.h"
#include "emulation/history.h"

namespace efficientad::emulation {

class SharedMemory {
 public:
  SharedMemory(std::size_t bytes, const Clocks& clocks)
      : size_(bytes), storage_(bytes + cuda::kSharedMemoryAlignment), history_(bytes, clocks) {
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    const std::size_t past = address % cuda::kSharedMemoryAlignment;
    aligned_ =
        storage_.data() + (cuda::kSharedMemoryAlignment - past) % cuda::kSharedMemoryAlignment;
  }

  void start_block() {
    poison(0, size_);
    history_.start_block();
  }

  // Fills memory with 0xff bytes, NaN in every floating type.
  void poison(std::size_t offset, std::size_t bytes) { std::memset(at(offset), 0xff, bytes); }

  unsigned char* at(std::size_t offset) { return aligned_ + offset; }
  History& history() { return history_; }
  const History& history() const { return history_; }

 private:
  std::size_t size_;
  std::vector<unsigned char> storage_;
  unsigned char* aligned_;
  History history_;
};

}  // namespace efficientad::emulation
