// Feature maps [batch][height][width][channels], channels-last, with zeros around them.
#pragma once

#include <cstring>

#include "cpu/scratch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

template <class Scalar>
class PaddedMaps {
 public:
  PaddedMaps(const void* maps, std::int64_t batch, std::int64_t height, std::int64_t width,
             std::int64_t channels)
      : maps_(static_cast<const Scalar*>(maps)),
        batch_(batch),
        height_(height),
        width_(width),
        channels_(channels) {}

  // To be called first; false if there is no memory.
  bool reserve() {
    if (!zeros_.reserve(channels_)) return false;
    std::memset(zeros_.data(), 0, static_cast<std::size_t>(channels_) * sizeof(Scalar));
    return true;
  }

  // The channels of a pixel: of zeros, where no image has it.
  const Scalar* pixel(std::int64_t image, std::int64_t row, std::int64_t column) const {
    if (image >= batch_ || row < 0 || row >= height_ || column < 0 || column >= width_) {
      return zeros();
    }
    return maps_ + ((image * height_ + row) * width_ + column) * channels_;
  }

  const Scalar* zeros() const { return zeros_.data(); }  // as many as channels

 private:
  const Scalar* const maps_;
  const std::int64_t batch_, height_, width_, channels_;
  Scratch<Scalar> zeros_;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
