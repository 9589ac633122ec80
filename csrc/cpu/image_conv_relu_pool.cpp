#include "efficientad/image_conv_relu_pool.h"

#include "cpu/feature_writer.h"
#include "cpu/image_source.h"
#include "cpu/kernels.h"
#include "cpu/scratch.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

constexpr std::int64_t kLength = kImageKernel * kImageKernel * kImageChannels;

// The `finish` of convolve() that pools as a FeatureWriter does, but for a border that counts as
// zeros, and keeps which of the sums were positive.
template <class Scalar>
class ActiveWriter {
 public:
  using Number = Accumulator<Scalar>;

  ActiveWriter(const ConvolutionGrid& grid, const ImageConvReluPool& problem)
      : grid_(grid),
        maps_(grid, true, problem.output),
        padding_(problem.pool_padding),
        active_(problem.active) {}

  void operator()(const ConvolutionTile& tile, const Number* sums) const {
    maps_.pool(tile, sums, [&](std::int64_t column) { return Window(*this, tile, column); });
  }

 private:
  using Bits = std::uint64_t;  // of a group's channels
  static_assert(kGroup<Scalar> <= 64);

  class Window {
   public:
    Window(const ActiveWriter& writer, const ConvolutionTile& tile, std::int64_t column)
        : writer_(writer), tile_(tile), column_(tile.column + column) {
      for (int pixel = 0; pixel < 4; ++pixel) {
        inside_[pixel] = writer.is_inside(tile.row + pixel / 2, writer.grid_.height) &&
                         writer.is_inside(column_ + pixel % 2, writer.grid_.width);
      }
    }

    Vector<Number> activation(int pixel, int channel, Vector<Number> sums) {
      if (!inside_[pixel]) return Vector<Number>{};
      const Mask<Number> stopped = sums <= Number{};
      const Bits passing = static_cast<Bits>(~bits_of(stopped)) & ((Bits{1} << kLanes<Number>)-1);
      bits_[pixel] |= passing << channel;
      return relu(sums);
    }

    void finish() const {
      if (writer_.active_ == nullptr) return;
      for (int pixel = 0; pixel < 4; ++pixel) {
        std::uint8_t* to = writer_.active_of(tile_, tile_.row + pixel / 2, column_ + pixel % 2);
        for (int byte = 0; byte < kGroup<Scalar> / 8; ++byte) {
          to[byte] = static_cast<std::uint8_t>(bits_[pixel] >> (8 * byte));
        }
      }
    }

   private:
    const ActiveWriter& writer_;
    const ConvolutionTile& tile_;
    const std::int64_t column_;
    bool inside_[4];
    Bits bits_[4] = {};
  };

  bool is_inside(std::int64_t index, std::int64_t length) const {
    return index >= padding_ && index < length - padding_;
  }

  std::uint8_t* active_of(const ConvolutionTile& tile, std::int64_t row,
                          std::int64_t column) const {
    const std::int64_t height = grid_.height / 2 * 2, width = grid_.width / 2 * 2;
    const std::int64_t pixel = (tile.image * height + row) * width + column;
    return active_ + (pixel * grid_.output_channels + tile.first_output) / 8;
  }

  const ConvolutionGrid& grid_;
  const FeatureWriter<Scalar> maps_;
  const std::int64_t padding_;
  std::uint8_t* const active_;
};

// The filters as image_convolution's weight: with a fourth channel, that of ones, of zeros.
template <class Scalar>
void pack(const ImageConvReluPool& problem, Scalar* weight) {
  using Number = Accumulator<Scalar>;
  constexpr std::int64_t kInterleave = kWeightLayout<Scalar>.interleave;
  const Number* filter = static_cast<const Number*>(problem.filters);
  for (std::int64_t output = 0; output < problem.output_channels; ++output) {
    Scalar* const panel = weight + output / kPanel * kPanel * kLength;
    for (std::int64_t k = 0; k < kLength; ++k) {
      const bool coloured = k % kImageChannels < kImageColours;
      Scalar& to = panel[k / kInterleave * kInterleave * kPanel + output % kPanel * kInterleave +
                         k % kInterleave];
      store_one(&to, coloured ? *filter : Number{});
      if (coloured) ++filter;
    }
  }
}

template <class Scalar>
Status run(const ImageConvReluPool& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  Scratch<Scalar> weight(problem.output_channels * kLength);
  if (weight.data() == nullptr) return kOutOfMemory;
  pack(problem, weight.data());
  ImageConvolution convolution{};
  convolution.image = problem.image;
  convolution.height = problem.height;
  convolution.width = problem.width;
  convolution.pooled = true;
  const ImageSource<Scalar, Number> source(convolution);
  const ImageSource<Scalar, Number>* const sources[] = {&source};
  const ConvolutionGrid grid{problem.batch,
                             problem.height - kImageKernel + 1,
                             problem.width - kImageKernel + 1,
                             problem.output_channels,
                             problem.output_channels,
                             kLength,
                             true};
  const auto convolve_and = [&](const auto& finish) {
    return convolve<Scalar>(grid, sources, 1, weight.data(), problem.bias, execution, finish);
  };
  if (problem.active == nullptr && problem.pool_padding == 0) {
    return convolve_and(FeatureWriter<Scalar>(grid, true, problem.output));
  }
  return convolve_and(ActiveWriter<Scalar>(grid, problem));
}

}  // namespace

Status image_conv_relu_pool(const ImageConvReluPool& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
