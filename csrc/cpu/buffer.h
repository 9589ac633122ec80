// An array that grows; elements are plain data and start undefined.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

template <class Element>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t capacity) { reserve(capacity); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(elements_); }

  // false if there is no memory; the buffer is then as it was.
  bool reserve(std::int64_t capacity) {
    if (capacity <= capacity_) return true;
    if (capacity < 2 * capacity_) capacity = 2 * capacity_;
    void* grown = std::realloc(elements_, static_cast<std::size_t>(capacity) * sizeof(Element));
    if (grown == nullptr) return false;
    elements_ = static_cast<Element*>(grown);
    capacity_ = capacity;
    return true;
  }

  Element* data() { return elements_; }
  const Element* data() const { return elements_; }
  Element& operator[](std::int64_t index) { return elements_[index]; }

 private:
  Element* elements_ = nullptr;
  std::int64_t capacity_ = 0;
};

// A fixed number of default-constructed objects.
template <class Object>
class Array {
 public:
  explicit Array(std::int64_t count) : objects_(new Object[static_cast<std::size_t>(count)]) {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { delete[] objects_; }

  Object& operator[](std::int64_t index) { return objects_[index]; }

 private:
  Object* objects_;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
