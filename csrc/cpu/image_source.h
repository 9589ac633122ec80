// The image that convolutions read: bytes or numbers, padded, in the type that is multiplied.
#pragma once

#include <cstring>
#include <type_traits>

#include "cpu/convolution.h"
#include "efficientad/image_convolution.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// A row of an image's colours as they are multiplied.
template <class Scalar, class Value>
class ColourRows {
 public:
  using Input = typename Multiplier<Scalar>::Input;
  using Number = Accumulator<Scalar>;
  static constexpr bool kBytes = std::is_same_v<Value, std::uint8_t>;

  explicit ColourRows(const ImageConvolution& problem) : problem_(problem) {
    if constexpr (kBytes) {
      for (int byte = 0; byte < 256; ++byte) store_one(of_byte_ + byte, static_cast<Number>(byte));
    }
  }

  // Writes the colours of a row's pixels to the first numbers of every kImageChannels. Bytes are
  // stored pixel by pixel, numbers colour by colour.
  void read(std::int64_t image, std::int64_t row, Input* to) const {
    const std::int64_t width = problem_.width, pixels = problem_.height * width;
    const Value* colours =
        static_cast<const Value*>(problem_.image) + image * kImageColours * pixels;
    if constexpr (kBytes) {
      const std::uint8_t* bytes = colours + row * width * kImageColours;
      for (std::int64_t column = 0; column < width; ++column) {
        for (std::int64_t colour = 0; colour < kImageColours; ++colour) {
          to[column * kImageChannels + colour] = of_byte_[bytes[column * kImageColours + colour]];
        }
      }
    } else if constexpr (std::is_same_v<Input, Value>) {
      for (std::int64_t colour = 0; colour < kImageColours; ++colour) {
        const Value* numbers = colours + colour * pixels + row * width;
        for (std::int64_t column = 0; column < width; ++column) {
          to[column * kImageChannels + colour] = numbers[column];
        }
      }
    } else {
      // What rounding takes from a number is given to its right neighbour: filters that add up
      // what lies side by side see a fraction of the errors.
      const Value* numbers = colours + row * width;
      Value carried[kImageColours] = {};
      for (std::int64_t column = 0; column < width; ++column) {
        for (std::int64_t colour = 0; colour < kImageColours; ++colour) {
          Input& stored = to[column * kImageChannels + colour];
          const Value wanted = numbers[colour * pixels + column] + carried[colour];
          narrow(wanted, stored);
          const Value lost = wanted - widened(stored);
          // NaN and infinity stay where they are.
          carried[colour] = lost - lost == Value{} ? lost : Value{};
        }
      }
    }
  }

 private:
  static float widened(BFloat16 value) { return bfloat16_to_float(value); }
  static float widened(Half value) { return half_to_float(value); }
  static void narrow(float value, BFloat16& to) { to = float_to_bfloat16(value); }
  static void narrow(float value, Half& to) { to = float_to_half(value); }

  const ImageConvolution& problem_;
  Input of_byte_[kBytes ? 256 : 1];
};

// An image with its fourth channel, made ready in strips of kImageChannels numbers a pixel: what a
// row of taps reads is one run of them.
template <class Scalar, class Value>
class ImageSource {
 public:
  using Input = typename Multiplier<Scalar>::Input;

  explicit ImageSource(const ImageConvolution& problem)
      : problem_(problem),
        rows_(problem),
        stride_(problem.pooled ? 1 : 2),
        padding_(problem.pooled ? 0 : 1),
        width_(problem.width + 2 * padding_) {
    store_one(&one_, Accumulator<Scalar>{1});
  }

  Reduction reduction() const {
    return {&offset_, 1, kImageKernel, line(), kImageKernel * kImageChannels};
  }
  std::int64_t pixel_pitch() const { return stride_ * kImageChannels; }
  std::int64_t row_pitch() const { return stride_ * line(); }
  std::int64_t group_pitch() const { return 0; }

  std::int64_t input_length(std::int64_t rows) const {
    return ((rows - 1) * stride_ + kImageKernel) * line();
  }
  bool needs_strip() const { return true; }

  const Input* prepare(std::int64_t image, std::int64_t row, std::int64_t rows,
                       Input* strip) const {
    const std::int64_t top = row * stride_ - padding_;
    const std::int64_t count = (rows - 1) * stride_ + kImageKernel;
    for (std::int64_t index = 0; index < count; ++index) {
      read(image, top + index, strip + index * line());
    }
    return strip;
  }

 private:
  std::int64_t line() const { return width_ * kImageChannels; }

  static void clear(Input* to, std::int64_t count) {
    std::memset(to, 0, static_cast<std::size_t>(count) * sizeof(Input));
  }

  // Writes a row of the strip: zeros outside the image.
  void read(std::int64_t image, std::int64_t row, Input* to) const {
    if (row < 0 || row >= problem_.height) {
      clear(to, line());
      return;
    }
    const std::int64_t margin = padding_ * kImageChannels;
    Input* const inside = to + margin;
    Input* const end = inside + problem_.width * kImageChannels;
    clear(to, margin);
    rows_.read(image, row, inside);
    for (Input* pixel = inside; pixel < end; pixel += kImageChannels) pixel[kImageColours] = one_;
    clear(end, margin);
  }

  const ImageConvolution& problem_;
  const ColourRows<Scalar, Value> rows_;
  const std::int64_t stride_, padding_;
  const std::int64_t width_;  // of a strip, in pixels
  const std::int64_t offset_ = 0;
  Input one_;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
