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
    const std::int64_t row_length = tile.pitch * kGroup<Scalar>;
    const bool upper = is_inside(tile.row, grid_.height);
    const bool lower = is_inside(tile.row + 1, grid_.height);
    Scalar* destination = maps_.first_of(tile);
    for (std::int64_t column = 0; column < tile.columns; column += 2) {
      const bool left = is_inside(tile.column + column, grid_.width);
      const bool right = is_inside(tile.column + column + 1, grid_.width);
      Bits bits[4] = {};
      maps_.write(destination, [&](int channel) {
        const Number* const at = sums + channel;
        const Number* const below = at + row_length;
        const auto passed = [&](bool inside, const Number* sum, Bits& of_pixel) {
          return inside ? pass(load(sum), channel, of_pixel) : Vector<Number>{};
        };
        const Vector<Number> sum = (passed(upper && left, at, bits[0]) +
                                    passed(upper && right, at + kGroup<Scalar>, bits[1])) +
                                   (passed(lower && left, below, bits[2]) +
                                    passed(lower && right, below + kGroup<Scalar>, bits[3]));
        return sum * Number{0.25};
      });
      if (active_ != nullptr) {
        for (int pixel = 0; pixel < 4; ++pixel) {
          write_bits(tile, tile.row + pixel / 2, tile.column + column + pixel % 2, bits[pixel]);
        }
      }
      sums += 2 * kGroup<Scalar>;
      destination += grid_.output_channels;
    }
  }

 private:
  using Bits = std::uint64_t;  // of a group's channels
  static_assert(kGroup<Scalar> <= 64);

  bool is_inside(std::int64_t index, std::int64_t length) const {
    return index >= padding_ && index < length - padding_;
  }

  static Vector<Number> pass(Vector<Number> sum, int channel, Bits& of_pixel) {
    const Mask<Number> stopped = sum <= Number{};
    const Bits passing = static_cast<Bits>(~bits_of(stopped)) & ((Bits{1} << kLanes<Number>)-1);
    of_pixel |= passing << channel;
    return relu(sum);
  }

  void write_bits(const ConvolutionTile& tile, std::int64_t row, std::int64_t column,
                  Bits bits) const {
    const std::int64_t height = grid_.height / 2 * 2, width = grid_.width / 2 * 2;
    const std::int64_t pixel = (tile.image * height + row) * width + column;
    std::uint8_t* to = active_ + (pixel * grid_.output_channels + tile.first_output) / 8;
    for (int byte = 0; byte < kGroup<Scalar> / 8; ++byte) {
      to[byte] = static_cast<std::uint8_t>(bits >> (8 * byte));
    }
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
