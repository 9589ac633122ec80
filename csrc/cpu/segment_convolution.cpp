#include "efficientad/segment_convolution.h"

#include <type_traits>

#include "cpu/convolution.h"
#include "cpu/feature_writer.h"
#include "cpu/kernels.h"
#include "cpu/segment_pixels.h"
#include "cpu/squared_differences.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// The pixels that one segment's taps see.
template <class Scalar>
class SegmentSource {
 public:
  using Input = typename Multiplier<Scalar>::Input;

  SegmentSource(const SegmentConvolution& problem, const Segment& segment)
      : segment_(segment),
        pixels_(problem, segment),
        width_((problem.width - 1) * segment.stride + segment.kernel),
        in_place_(std::is_same_v<Scalar, Input> && !Multiplier<Scalar>::kOnTiles &&
                  segment.pixel_channels == kBlockChannels && !segment.resampled &&
                  segment.padding == 0 && width_ <= segment.width &&
                  (problem.height - 1) * segment.stride + segment.kernel <= segment.height),
        offsets_(blocks() * segment.kernel) {
    if (!has_memory()) return;
    // In the order of the weights: blocks of channels, columns.
    std::int64_t* offset = offsets_.data();
    for (std::int64_t block = 0; block < blocks(); ++block) {
      for (int s = 0; s < segment.kernel; ++s) {
        *offset++ = block * block_pitch() + s * kBlockChannels;
      }
    }
  }

  bool has_memory() const { return pixels_.has_memory() && offsets_.data() != nullptr; }

  Reduction reduction() const {
    return {offsets_.data(), blocks() * segment_.kernel, segment_.kernel, line(), kBlockChannels};
  }
  std::int64_t pixel_pitch() const { return segment_.stride * kBlockChannels; }
  std::int64_t row_pitch() const { return segment_.stride * line(); }
  std::int64_t group_pitch() const { return blocks() * block_pitch(); }

  std::int64_t input_length(std::int64_t rows) const {
    return ((rows - 1) * segment_.stride + segment_.kernel) * line();
  }
  bool needs_strip() const { return !in_place_; }

  const Input* prepare(std::int64_t image, std::int64_t row, std::int64_t rows,
                       Input* strip) const {
    const std::int64_t top = row * segment_.stride - segment_.padding;
    if constexpr (std::is_same_v<Scalar, Input>) {
      if (in_place_) return pixels_.stored(image, top, 0);
    }
    const std::int64_t count = (rows - 1) * segment_.stride + segment_.kernel;
    for (std::int64_t index = 0; index < count; ++index) {
      for (std::int64_t column = 0; column < width_; ++column) {
        pixels_.read(image, top + index, column - segment_.padding,
                     strip + index * line() + column * kBlockChannels, block_pitch());
      }
    }
    return strip;
  }

 private:
  // A row of the strip is [blocks][width_][kBlockChannels]. So the pixels that the taps see lie
  // side by side; at the distance of all channels, most of the first-level cache would stay empty.
  static constexpr std::int64_t kBlockChannels = SegmentPixels<Scalar>::kBlockChannels;

  std::int64_t blocks() const { return segment_.channels / kBlockChannels; }
  // Numbers from one block, and one row, to the next: of a strip, or of the input, whose pixels
  // have one block then.
  std::int64_t block_pitch() const { return width_ * kBlockChannels; }
  std::int64_t line() const {
    return in_place_ ? segment_.input_width * kBlockChannels : width_ * pixels_.channels();
  }

  const Segment& segment_;
  const SegmentPixels<Scalar> pixels_;
  const std::int64_t width_;  // of what a row of outputs reads
  const bool in_place_;       // not for tiles, which read beyond a row's last pixels
  Scratch<std::int64_t> offsets_;
};

template <class Scalar>
Status run(const SegmentConvolution& problem, const Execution& execution) {
  const Epilogue epilogue = problem.epilogue;
  const ConvolutionGrid grid{problem.batch,
                             problem.height,
                             problem.width,
                             problem.output_channels,
                             problem.second_group,
                             reduction_length(problem),
                             epilogue == Epilogue::relu_pool};
  const SegmentSource<Scalar> first(problem, problem.segments[0]);
  const SegmentSource<Scalar> second(problem, problem.segments[problem.segment_count - 1]);
  if (!first.has_memory() || !second.has_memory()) return kOutOfMemory;
  const SegmentSource<Scalar>* const sources[] = {&first, &second};
  const auto with = [&](const auto& finish) {
    return convolve<Scalar>(grid, sources, problem.segment_count, problem.weight, problem.bias,
                            execution, finish);
  };
  if (epilogue == Epilogue::squared_difference) {
    return with(SquaredDifferences<Scalar>(grid, problem.output));
  }
  return with(FeatureWriter<Scalar>(grid, epilogue == Epilogue::relu, problem.output));
}

}  // namespace

Status segment_convolution(const SegmentConvolution& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

WeightLayout weight_layout(ScalarType type) {
  WeightLayout layout{};
  for_floating_type(type, [&](auto scalar) {
    layout = kWeightLayout<decltype(scalar)>;
    return kOk;
  });
  return layout;
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
