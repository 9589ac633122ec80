#include "efficientad/segment_convolution.h"

#include "cpu/bilinear.h"
#include "cpu/convolution.h"
#include "cpu/kernels.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// What the taps of one segment see.
template <class Scalar>
class SegmentReader {
 public:
  using Number = Accumulator<Scalar>;

  explicit SegmentReader(const Segment& segment)
      : segment_(segment),
        rows_(segment.rows, segment.input_height, segment.resampled ? segment.height : 1),
        columns_(segment.columns, segment.input_width, segment.resampled ? segment.width : 1) {}

  bool has_memory() const { return rows_.has_memory() && columns_.has_memory(); }

  std::int64_t length() const { return segment_.channels * segment_.kernel * segment_.kernel; }

  // Writes length() numbers, in the order of a row of weights: what output (y, x) of one group
  // reads.
  void read(std::int64_t image, int group, std::int64_t y, std::int64_t x, Number* numbers) const {
    const std::int64_t first = segment_.first_channel + group * segment_.channels;
    const std::int64_t top = y * segment_.stride - segment_.padding;
    const std::int64_t left = x * segment_.stride - segment_.padding;
    for (std::int64_t block = 0; block < segment_.channels; block += kBlockChannels) {
      for (int s = 0; s < segment_.kernel; ++s) {
        for (int r = 0; r < segment_.kernel; ++r) {
          read_tap(image, top + r, left + s, first + block, numbers);
          numbers += kBlockChannels;
        }
      }
    }
  }

 private:
  static constexpr std::int64_t kBlockChannels =
      kBlockBytes / static_cast<std::int64_t>(sizeof(Scalar));

  const Scalar* pixel(std::int64_t image, std::int64_t row, std::int64_t column) const {
    const std::int64_t index =
        (image * segment_.input_height + row) * segment_.input_width + column;
    return static_cast<const Scalar*>(segment_.input) + index * segment_.pixel_channels;
  }

  void read_tap(std::int64_t image, std::int64_t row, std::int64_t column, std::int64_t channel,
                Number* numbers) const {
    if (row < 0 || row >= segment_.height || column < 0 || column >= segment_.width) {
      for (std::int64_t index = 0; index < kBlockChannels; ++index) numbers[index] = 0;
      return;
    }
    if (!segment_.resampled) {
      const Scalar* source = pixel(image, row, column) + channel;
      for (std::int64_t index = 0; index < kBlockChannels; index += kLanes<Number>) {
        store(numbers + index, load(source + index));
      }
      return;
    }
    const std::int64_t top = rows_.lower()[row], bottom = rows_.upper()[row];
    const std::int64_t left = columns_.lower()[column], right = columns_.upper()[column];
    const Number down = rows_.fraction()[row], across = columns_.fraction()[column];
    const Scalar* top_left = pixel(image, top, left) + channel;
    const Scalar* top_right = pixel(image, top, right) + channel;
    const Scalar* bottom_left = pixel(image, bottom, left) + channel;
    const Scalar* bottom_right = pixel(image, bottom, right) + channel;
    for (std::int64_t index = 0; index < kBlockChannels; index += kLanes<Number>) {
      const auto blend = [&](const Scalar* from, const Scalar* to) {
        const Vector<Number> value = load(from + index);
        return value + across * (load(to + index) - value);
      };
      const Vector<Number> above = blend(top_left, top_right);
      const Vector<Number> below = blend(bottom_left, bottom_right);
      store(numbers + index, above + down * (below - above));
    }
  }

  const Segment& segment_;
  const AxisTable<Number> rows_, columns_;
};

// Planes [output_channels / kPlaneChannels][batch][height][width], whose sum is the mean of
// squares.
template <class Number>
void square_tile(const ConvolutionGrid& grid, const ConvolutionTile& tile, const Number* sums,
                 Number* output) {
  const Number scale = Number{1} / static_cast<Number>(grid.output_channels);
  const std::int64_t plane_pixels = grid.batch * grid.height * grid.width;
  Number* map = output + (tile.image * grid.height + tile.row) * grid.width + tile.column;
  for (std::int64_t column = 0; column < tile.columns; ++column) {
    for (std::int64_t plane = 0; plane < grid.output_channels / kPlaneChannels; ++plane) {
      Vector<Number> squares = {};
      for (std::int64_t index = 0; index < kPlaneChannels; index += kLanes<Number>) {
        const Vector<Number> value = load(sums + index);
        squares += value * value;
      }
      map[plane * plane_pixels + column] = scale * sum_of_lanes<Number>(squares);
      sums += kPlaneChannels;
    }
  }
}

template <class Scalar>
Status run(const SegmentConvolution& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const Epilogue epilogue = problem.epilogue;
  const ConvolutionGrid grid{problem.batch,
                             problem.height,
                             problem.width,
                             problem.output_channels,
                             problem.second_group,
                             reduction_length(problem),
                             epilogue == Epilogue::relu_pool};
  const SegmentReader<Scalar> first(problem.segments[0]);
  const SegmentReader<Scalar> second(problem.segments[problem.segment_count - 1]);
  const Widened<Scalar> weight(problem.weight, grid.output_channels * grid.length, execution);
  if (!first.has_memory() || !second.has_memory() || weight.data() == nullptr) return kOutOfMemory;
  const auto gather = [&](std::int64_t image, std::int64_t y, std::int64_t x, int group,
                          Number* numbers) {
    first.read(image, group, y, x, numbers);
    if (problem.segment_count == 2) second.read(image, group, y, x, numbers + first.length());
  };
  const auto finish = [&](const ConvolutionTile& tile, const Number* sums) {
    if (epilogue == Epilogue::squared_difference) {
      square_tile(grid, tile, sums, static_cast<Number*>(problem.output));
    } else if (epilogue == Epilogue::relu_pool) {
      pool_tile(grid, tile, sums, static_cast<Scalar*>(problem.output));
    } else {
      store_tile(grid, tile, sums, epilogue == Epilogue::relu,
                 static_cast<Scalar*>(problem.output));
    }
  };
  return convolve(grid, weight.data(), static_cast<const Number*>(problem.bias), execution, gather,
                  finish);
}

}  // namespace

Status segment_convolution(const SegmentConvolution& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
