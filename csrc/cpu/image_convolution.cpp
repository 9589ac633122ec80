#include "efficientad/image_convolution.h"

#include <type_traits>

#include "cpu/convolution.h"
#include "cpu/kernels.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

constexpr std::int64_t kColours = kImageChannels - 1;

// Writes the kImageChannels numbers of the pixel (row, column), zeros outside the image.
template <class Value, class Number>
void read_pixel(const ImageConvolution& problem, std::int64_t image, std::int64_t row,
                std::int64_t column, Number* numbers) {
  const bool inside = row >= 0 && row < problem.height && column >= 0 && column < problem.width;
  const std::int64_t pixels = problem.height * problem.width;
  const std::int64_t pixel = row * problem.width + column;
  const Value* colours = static_cast<const Value*>(problem.image) + image * kColours * pixels;
  for (std::int64_t colour = 0; colour < kColours; ++colour) {
    // Bytes are stored pixel by pixel, numbers colour by colour.
    const std::int64_t at =
        std::is_same_v<Value, std::uint8_t> ? pixel * kColours + colour : colour * pixels + pixel;
    numbers[colour] = inside ? static_cast<Number>(colours[at]) : Number{0};
  }
  numbers[kColours] = inside ? Number{1} : Number{0};
}

template <class Scalar, class Value>
Status run(const ImageConvolution& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const std::int64_t stride = problem.pooled ? 1 : 2, padding = problem.pooled ? 0 : 1;
  const auto length = [&](std::int64_t image_length) {
    return problem.pooled ? image_length - kImageKernel + 1 : problem.output_length(image_length);
  };
  const ConvolutionGrid grid{problem.batch,           length(problem.height),
                             length(problem.width),   problem.output_channels,
                             problem.output_channels, kImageKernel * kImageKernel * kImageChannels,
                             problem.pooled};
  const Widened<Scalar> weight(problem.weight, grid.output_channels * grid.length, execution);
  if (weight.data() == nullptr) return kOutOfMemory;
  const auto gather = [&](std::int64_t image, std::int64_t y, std::int64_t x, int,
                          Number* numbers) {
    for (int r = 0; r < kImageKernel; ++r) {
      for (int s = 0; s < kImageKernel; ++s) {
        read_pixel<Value>(problem, image, y * stride - padding + r, x * stride - padding + s,
                          numbers);
        numbers += kImageChannels;
      }
    }
  };
  const auto finish = [&](const ConvolutionTile& tile, const Number* sums) {
    Scalar* output = static_cast<Scalar*>(problem.output);
    if (problem.pooled) {
      pool_tile(grid, tile, sums, output);
    } else {
      store_tile(grid, tile, sums, true, output);
    }
  };
  return convolve(grid, weight.data(), static_cast<const Number*>(problem.bias), execution, gather,
                  finish);
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
