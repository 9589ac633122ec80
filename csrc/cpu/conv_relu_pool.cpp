// The part of conv_relu_pool that is not the convolution: on a CPU, torch convolves.

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/relu.h"
#include "cpu/scratch.h"
#include "cpu/simd.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

template <class Scalar>
struct Pooling {
  const FeatureMaps& input;
  const FeatureMaps& output;
  std::int64_t padding;

  const Scalar* source(std::int64_t image, std::int64_t channel) const {
    return static_cast<const Scalar*>(input.data) + image * input.batch_stride +
           channel * input.channel_stride;
  }

  Scalar* destination(std::int64_t image, std::int64_t channel, std::int64_t row) const {
    return static_cast<Scalar*>(output.data) + image * output.batch_stride +
           channel * output.channel_stride + row * output.row_stride;
  }
};

// The first of the two input rows or columns of a window, and how many of the two exist.
struct Window {
  std::int64_t first, count;

  Window(std::int64_t index, std::int64_t padding, std::int64_t length) {
    first = 2 * index - padding;
    std::int64_t end = first + 2;
    if (first < 0) first = 0;
    if (end > length) end = length;
    count = end - first;
  }
};

// One output row of one channel, planes layout. `sums` takes the activations of the window's rows,
// added, with a zero for each padded column before and after them; it has room for two vectors
// more.
template <class Scalar>
void planes_row(const Pooling<Scalar>& pooling, const Scalar* source, Scalar* destination,
                std::int64_t row, Accumulator<Scalar>* sums) {
  using Sum = Accumulator<Scalar>;
  const Window rows(row, pooling.padding, pooling.input.height);
  const std::int64_t width = pooling.input.width;
  const Scalar* top = source + rows.first * pooling.input.row_stride;
  const Scalar* bottom = top + pooling.input.row_stride;
  Sum* activations = sums + pooling.padding;
  for (std::int64_t column = 0; column < width; column += kLanes<Sum>) {
    const std::int64_t left = width - column;
    const std::int64_t count = left < kLanes<Sum> ? left : kLanes<Sum>;
    Vector<Sum> sum = relu(load_up_to(top + column, count));
    if (rows.count == 2) sum += relu(load_up_to(bottom + column, count));
    store(activations + column, sum);
  }
  if (pooling.padding == 1) sums[0] = activations[width] = Sum{};
  const std::int64_t output_width = pooling.output.width;
  for (std::int64_t column = 0; column < output_width; column += kLanes<Sum>) {
    const Vector<Sum> first = load(sums + 2 * column);
    const Vector<Sum> second = load(sums + 2 * column + kLanes<Sum>);
    const Vector<Sum> sum =
        every_other_lane<Sum>(first, second, 0) + every_other_lane<Sum>(first, second, 1);
    const std::int64_t left = output_width - column;
    store_up_to(destination + column, sum * Sum{0.25}, left < kLanes<Sum> ? left : kLanes<Sum>);
  }
}

// One output row of all channels, channels-last layout.
template <class Scalar>
void channels_last_row(const Pooling<Scalar>& pooling, const Scalar* source, Scalar* destination,
                       std::int64_t row) {
  using Sum = Accumulator<Scalar>;
  const FeatureMaps& input = pooling.input;
  const Window rows(row, pooling.padding, input.height);
  for (std::int64_t column = 0; column < pooling.output.width; ++column) {
    const Window columns(column, pooling.padding, input.width);
    const Scalar* corner =
        source + rows.first * input.row_stride + columns.first * input.column_stride;
    Scalar* pixel = destination + column * pooling.output.column_stride;
    for (std::int64_t channel = 0; channel < input.channels; channel += kLanes<Sum>) {
      const std::int64_t left = input.channels - channel;
      const std::int64_t count = left < kLanes<Sum> ? left : kLanes<Sum>;
      Vector<Sum> sum = {};
      for (std::int64_t y = 0; y < rows.count; ++y) {
        for (std::int64_t x = 0; x < columns.count; ++x) {
          const Scalar* at = corner + y * input.row_stride + x * input.column_stride + channel;
          sum += relu(load_up_to(at, count));
        }
      }
      store_up_to(pixel + channel, sum * Sum{0.25}, count);
    }
  }
}

template <class Scalar>
Status run(const ReluPool& problem, const Execution& execution) {
  const FeatureMaps& input = problem.input;
  const FeatureMaps& output = problem.output;
  const Pooling<Scalar> pooling{input, output, problem.pool_padding};
  const Team team = team_for(execution, input.elements());
  if (!input.is_planes()) {
    parallel_ranges(team, output.batch * output.height,
                    [&](int, std::int64_t begin, std::int64_t end) {
                      for (std::int64_t index = begin; index < end; ++index) {
                        const std::int64_t image = index / output.height;
                        const std::int64_t row = index % output.height;
                        channels_last_row(pooling, pooling.source(image, 0),
                                          pooling.destination(image, 0, row), row);
                      }
                    });
    return kOk;
  }
  using Sum = Accumulator<Scalar>;
  const std::int64_t row_length = input.width + 2 + 2 * kLanes<Sum>;
  Scratch<Sum> sums(team.useful * row_length);
  if (sums.data() == nullptr) return kOutOfMemory;
  const std::int64_t rows_per_image = output.channels * output.height;
  parallel_ranges(team, output.batch * rows_per_image,
                  [&](int thread, std::int64_t begin, std::int64_t end) {
                    for (std::int64_t index = begin; index < end; ++index) {
                      const std::int64_t image = index / rows_per_image;
                      const std::int64_t channel = index / output.height % output.channels;
                      const std::int64_t row = index % output.height;
                      planes_row(pooling, pooling.source(image, channel),
                                 pooling.destination(image, channel, row), row,
                                 sums.data() + thread * row_length);
                    }
                  });
  return kOk;
}

}  // namespace

Status relu_pool(const ReluPool& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
