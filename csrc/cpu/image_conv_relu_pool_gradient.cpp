#include "cpu/image_products.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/scratch.h"
#include "efficientad/image_conv_relu_pool.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Each thread sums up a few units of output channels, row by row over all images, so that the sums
// are the same whatever the number of threads; no more of these work than there are units, 8 of a
// PDN-S on AVX-512.
template <class Scalar>
class Gradient {
 public:
  using Number = Accumulator<Scalar>;
  using Products = ImageProducts<Scalar>;
  using Factor = typename Products::Factor;

  explicit Gradient(const ImageConvReluPoolGradient& problem)
      : problem_(problem),
        pooled_height_((problem.height - kImageKernel + 1) / 2),
        pooled_width_((problem.width - kImageKernel + 1) / 2) {}

  Status run(const Execution& execution) const {
    const std::int64_t products = problem_.batch * problem_.height * problem_.width *
                                  problem_.output_channels * kImageKernel * kTapRowInputs;
    return parallel_ranges_with_status(
        team_for(execution, products), problem_.output_channels / Products::kChannels,
        [&](int, std::int64_t begin, std::int64_t end) { return sum_units(begin, end); });
  }

 private:
  Status sum_units(std::int64_t begin, std::int64_t end) const {
    const Products products(2 * pooled_width_);
    Scratch<Number> sums((end - begin) * Products::kSums);
    // Of an image, as many as the tap rows read; the next one takes the oldest one's place.
    Scratch<Factor> rows(kImageKernel * products.row_length());
    Scratch<Factor> strip(products.strip_length());
    if (sums.data() == nullptr || rows.data() == nullptr || strip.data() == nullptr) {
      return kOutOfMemory;
    }
    std::memset(sums.data(), 0,
                static_cast<std::size_t>((end - begin) * Products::kSums) * sizeof(Number));
    const auto row_of = [&](std::int64_t row) {
      return rows.data() + row % kImageKernel * products.row_length();
    };
    for (std::int64_t image = 0; image < problem_.batch; ++image) {
      std::int64_t rows_read = 0;
      for (std::int64_t row = 0; row < 2 * pooled_height_; ++row) {
        for (; rows_read < row + kImageKernel; ++rows_read) {
          products.read_row(image_row(image, rows_read), problem_.height * problem_.width,
                            row_of(rows_read));
        }
        const Factor* const tap_rows[kImageKernel] = {row_of(row), row_of(row + 1), row_of(row + 2),
                                                      row_of(row + 3)};
        const std::int64_t convolved = image * 2 * pooled_height_ + row;
        for (std::int64_t unit = begin; unit < end; ++unit) {
          Number* const to = sums.data() + (unit - begin) * Products::kSums;
          products.read_gradients(gradients_of(convolved / 2), active_of(convolved),
                                  problem_.output_channels, unit * Products::kChannels,
                                  strip.data(), to);
          products.add(strip.data(), tap_rows, to);
        }
      }
    }
    for (std::int64_t unit = begin; unit < end; ++unit) {
      write(unit * Products::kChannels, sums.data() + (unit - begin) * Products::kSums);
    }
    return kOk;
  }

  const Number* image_row(std::int64_t image, std::int64_t row) const {
    return static_cast<const Number*>(problem_.image) +
           (image * kImageColours * problem_.height + row) * problem_.width;
  }
  const Scalar* gradients_of(std::int64_t pooled_row) const {
    return static_cast<const Scalar*>(problem_.output_gradient) +
           pooled_row * pooled_width_ * problem_.output_channels;
  }
  const std::uint8_t* active_of(std::int64_t row) const {
    return problem_.active + row * 2 * pooled_width_ * (problem_.output_channels / 8);
  }

  void write(std::int64_t first_output, const Number* sums) const {
    Number* filter = static_cast<Number*>(problem_.filter_gradient) +
                     first_output * kImageKernel * kTapRowInputs;
    Number* const bias = static_cast<Number*>(problem_.bias_gradient) + first_output;
    for (std::int64_t channel = 0; channel < Products::kChannels; ++channel) {
      for (std::int64_t row = 0; row < kImageKernel; ++row) {
        for (std::int64_t column = 0; column < kImageKernel; ++column) {
          for (std::int64_t colour = 0; colour < kImageColours; ++colour) {
            *filter++ = Products::filter(sums, row, column, colour, channel);
          }
        }
      }
      bias[channel] = Products::bias(sums, channel);
    }
  }

  const ImageConvReluPoolGradient& problem_;
  const std::int64_t pooled_height_, pooled_width_;
};

}  // namespace

Status image_conv_relu_pool_gradient(const ImageConvReluPoolGradient& problem,
                                     const Execution& execution) {
  return for_floating_type(problem.type, [&](auto scalar) {
    return Gradient<decltype(scalar)>(problem).run(execution);
  });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
