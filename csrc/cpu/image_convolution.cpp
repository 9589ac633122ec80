#include "efficientad/image_convolution.h"

#include <type_traits>

#include "cpu/convolution.h"
#include "cpu/kernels.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

constexpr std::int64_t kColours = kImageChannels - 1;

// An image with its fourth channel, made ready in strips of kImageChannels numbers a pixel: what a
// row of taps reads is one run of them.
template <class Scalar, class Value>
class ImageSource {
 public:
  using Input = typename Multiplier<Scalar>::Input;

  explicit ImageSource(const ImageConvolution& problem)
      : problem_(problem),
        stride_(problem.pooled ? 1 : 2),
        padding_(problem.pooled ? 0 : 1),
        width_(problem.width + 2 * padding_) {
    for (int r = 0; r < kImageKernel; ++r) offsets_[r] = r * line();
  }

  Reduction reduction() const { return {offsets_, kImageKernel, kImageKernel * kImageChannels}; }
  std::int64_t pixel_pitch() const { return stride_ * kImageChannels; }
  std::int64_t row_pitch() const { return stride_ * line(); }
  std::int64_t group_pitch() const { return 0; }

  std::int64_t strip_length(std::int64_t rows) const {
    return ((rows - 1) * stride_ + kImageKernel) * line();
  }

  const Input* prepare(std::int64_t image, std::int64_t row, std::int64_t rows,
                       Input* strip) const {
    const std::int64_t top = row * stride_ - padding_;
    Input* to = strip;
    for (std::int64_t index = 0; index < (rows - 1) * stride_ + kImageKernel; ++index) {
      for (std::int64_t column = 0; column < width_; ++column) {
        read(image, top + index, column - padding_, to);
        to += kImageChannels;
      }
    }
    return strip;
  }

 private:
  std::int64_t line() const { return width_ * kImageChannels; }

  // Writes the kImageChannels numbers of a pixel, zeros outside the image.
  void read(std::int64_t image, std::int64_t row, std::int64_t column, Input* to) const {
    const bool inside = row >= 0 && row < problem_.height && column >= 0 && column < problem_.width;
    const std::int64_t pixels = problem_.height * problem_.width;
    const std::int64_t pixel = row * problem_.width + column;
    const Value* colours = static_cast<const Value*>(problem_.image) + image * kColours * pixels;
    for (std::int64_t colour = 0; colour < kColours; ++colour) {
      // Bytes are stored pixel by pixel, numbers colour by colour.
      const std::int64_t at =
          std::is_same_v<Value, std::uint8_t> ? pixel * kColours + colour : colour * pixels + pixel;
      to[colour] = as_input(inside ? static_cast<Number>(colours[at]) : Number{0});
    }
    to[kColours] = as_input(inside ? Number{1} : Number{0});
  }

  using Number = Accumulator<Scalar>;
  static Input as_input(Number value) {
    Input input;
    store_one(&input, value);
    return input;
  }

  const ImageConvolution& problem_;
  const std::int64_t stride_, padding_;
  const std::int64_t width_;  // of a strip, in pixels
  std::int64_t offsets_[kImageKernel];
};

template <class Scalar, class Value>
Status run(const ImageConvolution& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const auto length = [&](std::int64_t image_length) {
    return problem.pooled ? image_length - kImageKernel + 1 : problem.output_length(image_length);
  };
  const ConvolutionGrid grid{problem.batch,           length(problem.height),
                             length(problem.width),   problem.output_channels,
                             problem.output_channels, kImageKernel * kImageKernel * kImageChannels,
                             problem.pooled};
  const auto finish = [&](const ConvolutionTile& tile, const Number* sums) {
    Scalar* output = static_cast<Scalar*>(problem.output);
    if (problem.pooled) {
      pool_tile(grid, tile, sums, output);
    } else {
      store_tile(grid, tile, sums, true, output);
    }
  };
  const ImageSource<Scalar, Value> source(problem);
  const ImageSource<Scalar, Value>* const sources[] = {&source};
  return convolve<Scalar>(grid, sources, 1, problem.weight, problem.bias, execution, finish);
}

}  // namespace

Status image_convolution(const ImageConvolution& problem, const Execution& execution) {
  return for_floating_type(problem.type, [&](auto scalar) {
    using Scalar = decltype(scalar);
    return problem.image_type == ScalarType::uint8
               ? run<Scalar, std::uint8_t>(problem, execution)
               : run<Scalar, Accumulator<Scalar>>(problem, execution);
  });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
