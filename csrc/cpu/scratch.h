// An array in memory that the thread keeps; elements are plain data and start undefined. For what
// is small beside feature maps: memory of a Buffer goes back after the call.
#pragma once

#include <cstdint>

#include "cpu/scratch_blocks.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

template <class Element>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::int64_t count) { reserve(count); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (block_ != nullptr) block_->taken = false;
  }

  // Once; false if there is no memory.
  bool reserve(std::int64_t count) {
    block_ = cpu::take_scratch(count * static_cast<std::int64_t>(sizeof(Element)));
    return block_ != nullptr;
  }

  // nullptr where nothing is reserved.
  Element* data() { return block_ == nullptr ? nullptr : static_cast<Element*>(block_->memory); }
  const Element* data() const {
    return block_ == nullptr ? nullptr : static_cast<const Element*>(block_->memory);
  }
  Element& operator[](std::int64_t index) { return data()[index]; }

 private:
  cpu::ScratchBlock* block_ = nullptr;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
