#include "efficientad/segment_convolution.h"

#include <type_traits>

#include "cpu/bilinear.h"
#include "cpu/convolution.h"
#include "cpu/feature_writer.h"
#include "cpu/kernels.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// The pixels that one segment's taps see.
template <class Scalar>
class SegmentSource {
 public:
  using Number = Accumulator<Scalar>;
  using Input = typename Multiplier<Scalar>::Input;

  SegmentSource(const SegmentConvolution& problem, const Segment& segment)
      : segment_(segment),
        width_((problem.width - 1) * segment.stride + segment.kernel),
        channels_(segment.channels * (problem.second_group < problem.output_channels ? 2 : 1)),
        in_place_(std::is_same_v<Scalar, Input> && segment.pixel_channels == kBlockChannels &&
                  !segment.resampled && segment.padding == 0 && width_ <= segment.width &&
                  (problem.height - 1) * segment.stride + segment.kernel <= segment.height),
        rows_(segment.rows, segment.input_height, segment.resampled ? segment.height : 1),
        columns_(segment.columns, segment.input_width, segment.resampled ? segment.width : 1),
        offsets_(taps() * segment.channels / kBlockChannels) {
    if (!has_memory()) return;
    // In the order of the weights: blocks of channels, columns, rows.
    std::int64_t* offset = offsets_.data();
    for (std::int64_t block = 0; block < segment.channels / kBlockChannels; ++block) {
      for (int s = 0; s < segment.kernel; ++s) {
        for (int r = 0; r < segment.kernel; ++r) {
          *offset++ = r * line() + block * block_pitch() + s * kBlockChannels;
        }
      }
    }
  }

  bool has_memory() const {
    return rows_.has_memory() && columns_.has_memory() && offsets_.data() != nullptr;
  }

  Reduction reduction() const {
    return {offsets_.data(), taps() * segment_.channels / kBlockChannels, kBlockChannels};
  }
  std::int64_t pixel_pitch() const { return segment_.stride * kBlockChannels; }
  std::int64_t row_pitch() const { return segment_.stride * line(); }
  std::int64_t group_pitch() const { return segment_.channels / kBlockChannels * block_pitch(); }

  std::int64_t input_length(std::int64_t rows) const {
    return ((rows - 1) * segment_.stride + segment_.kernel) * line();
  }
  bool needs_strip() const { return !in_place_; }

  const Input* prepare(std::int64_t image, std::int64_t row, std::int64_t rows,
                       Input* strip) const {
    const std::int64_t top = row * segment_.stride - segment_.padding;
    if constexpr (std::is_same_v<Scalar, Input>) {
      if (in_place_) return stored(image, top, 0);
    }
    const std::int64_t count = (rows - 1) * segment_.stride + segment_.kernel;
    for (std::int64_t index = 0; index < count; ++index) {
      for (std::int64_t column = 0; column < width_; ++column) {
        read(image, top + index, column - segment_.padding,
             strip + index * line() + column * kBlockChannels);
      }
    }
    return strip;
  }

 private:
  // A row of the strip is [blocks][width_][kBlockChannels]. So the pixels that the taps see lie
  // side by side; at the distance of all channels, most of the first-level cache would stay empty.
  static constexpr std::int64_t kBlockChannels =
      kBlockBytes / static_cast<std::int64_t>(sizeof(Scalar));

  std::int64_t taps() const { return segment_.kernel * segment_.kernel; }
  // Numbers from one block, and one row, to the next: of a strip, or of the input, whose pixels
  // have one block then.
  std::int64_t block_pitch() const { return width_ * kBlockChannels; }
  std::int64_t line() const {
    return in_place_ ? segment_.input_width * kBlockChannels : width_ * channels_;
  }

  // The channels that are read, of a pixel as it is stored.
  const Scalar* stored(std::int64_t image, std::int64_t row, std::int64_t column) const {
    const std::int64_t index =
        (image * segment_.input_height + row) * segment_.input_width + column;
    return static_cast<const Scalar*>(segment_.input) + index * segment_.pixel_channels +
           segment_.first_channel;
  }

  // Writes a pixel as the taps see it, block by block.
  void read(std::int64_t image, std::int64_t row, std::int64_t column, Input* to) const {
    if (row < 0 || row >= segment_.height || column < 0 || column >= segment_.width) {
      write(to, [](std::int64_t) { return Vector<Number>{}; });
      return;
    }
    if (!segment_.resampled) {
      const Scalar* from = stored(image, row, column);
      if constexpr (std::is_same_v<Scalar, Input>) {
        for (std::int64_t block = 0; block < channels_; block += kBlockChannels) {
          std::memcpy(to, from + block, kBlockBytes);
          to += block_pitch();
        }
      } else {
        write(to, [&](std::int64_t channel) { return load(from + channel); });
      }
      return;
    }
    const std::int64_t top = rows_.lower()[row], bottom = rows_.upper()[row];
    const std::int64_t left = columns_.lower()[column], right = columns_.upper()[column];
    const Number down = rows_.fraction()[row], across = columns_.fraction()[column];
    const Scalar* top_left = stored(image, top, left);
    const Scalar* top_right = stored(image, top, right);
    const Scalar* bottom_left = stored(image, bottom, left);
    const Scalar* bottom_right = stored(image, bottom, right);
    write(to, [&](std::int64_t channel) {
      const auto blend = [&](const Scalar* from, const Scalar* towards) {
        const Vector<Number> value = load(from + channel);
        return value + across * (load(towards + channel) - value);
      };
      const Vector<Number> above = blend(top_left, top_right);
      const Vector<Number> below = blend(bottom_left, bottom_right);
      return above + down * (below - above);
    });
  }

  // Writes value(channel) for all channels, a vector at a time.
  template <class Value>
  void write(Input* to, const Value& value) const {
    for (std::int64_t block = 0; block < channels_; block += kBlockChannels) {
      for (std::int64_t channel = 0; channel < kBlockChannels; channel += kLanes<Number>) {
        store(to + channel, value(block + channel));
      }
      to += block_pitch();
    }
  }

  const Segment& segment_;
  const std::int64_t width_;     // of what a row of outputs reads
  const std::int64_t channels_;  // that are read, of both groups
  const bool in_place_;
  const AxisTable<Number> rows_, columns_;
  Scratch<std::int64_t> offsets_;
};

// What is done with sums, of planes [output_channels / kPlaneChannels][batch][height][width]: their
// squares are added up.
template <class Scalar>
class SquaredDifferences {
 public:
  using Number = Accumulator<Scalar>;
  static_assert(kPlaneChannels % kGroup<Scalar> == 0);

  SquaredDifferences(const ConvolutionGrid& grid, void* output)
      : grid_(grid), output_(static_cast<Number*>(output)) {}

  // Groups come in the order of their channels: the first one of a plane writes, the others add.
  void operator()(const ConvolutionTile& tile, const Number* sums) const {
    const Number scale = Number{1} / static_cast<Number>(grid_.output_channels);
    const std::int64_t plane = tile.first_output / kPlaneChannels;
    const bool first = tile.first_output % kPlaneChannels == 0;
    const std::int64_t row = (plane * grid_.batch + tile.image) * grid_.height + tile.row;
    Number* map = output_ + row * grid_.width + tile.column;
    for (std::int64_t column = 0; column < tile.columns; ++column) {
      Vector<Number> squares = {};
      for (std::int64_t index = 0; index < kGroup<Scalar>; index += kLanes<Number>) {
        const Vector<Number> value = load(sums + index);
        squares += value * value;
      }
      const Number mean = scale * sum_of_lanes<Number>(squares);
      map[column] = first ? mean : map[column] + mean;
      sums += kGroup<Scalar>;
    }
  }

 private:
  const ConvolutionGrid& grid_;
  Number* const output_;
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
