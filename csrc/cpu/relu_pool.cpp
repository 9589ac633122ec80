#include "efficientad/relu_pool.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/relu.h"
#include "cpu/rows.h"
#include "cpu/simd.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

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

// The gradient where the activation passed the ReLU; a NaN passes.
template <class Sum>
inline Vector<Sum> where_active(Vector<Sum> activation, Vector<Sum> gradient) {
  return activation <= Sum{} ? Vector<Sum>{} : gradient;
}

// One output row of one channel, planes layout. `sums` takes the activations of the window's rows,
// added, with a zero for each padded column before and after them; it has room for two vectors
// more.
template <class Scalar>
void planes_row(const ReluPool& problem, std::int64_t image, std::int64_t channel, std::int64_t row,
                Accumulator<Scalar>* sums) {
  using Sum = Accumulator<Scalar>;
  const Window rows(row, problem.pool_padding, problem.input.height);
  const std::int64_t width = problem.input.width;
  const Scalar* top = row_of<const Scalar>(problem.input, image, channel, rows.first);
  const Scalar* bottom = top + problem.input.row_stride;
  Scalar* destination = row_of<Scalar>(problem.output, image, channel, row);
  Sum* activations = sums + problem.pool_padding;
  for (std::int64_t column = 0; column < width; column += kLanes<Sum>) {
    const std::int64_t left = width - column;
    const std::int64_t count = left < kLanes<Sum> ? left : kLanes<Sum>;
    Vector<Sum> sum = relu(load_up_to(top + column, count));
    if (rows.count == 2) sum += relu(load_up_to(bottom + column, count));
    store(activations + column, sum);
  }
  if (problem.pool_padding == 1) sums[0] = activations[width] = Sum{};
  const std::int64_t output_width = problem.output.width;
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
void channels_last_row(const ReluPool& problem, std::int64_t image, std::int64_t row) {
  using Sum = Accumulator<Scalar>;
  const FeatureMaps& input = problem.input;
  const Window rows(row, problem.pool_padding, input.height);
  const Scalar* source = row_of<const Scalar>(input, image, 0, rows.first);
  for (std::int64_t column = 0; column < problem.output.width; ++column) {
    const Window columns(column, problem.pool_padding, input.width);
    const Scalar* corner = source + columns.first * input.column_stride;
    Scalar* pixel =
        row_of<Scalar>(problem.output, image, 0, row) + column * problem.output.column_stride;
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

// One row of one channel's gradient, planes layout. `spread` takes a quarter of the row's
// gradients, each twice, side by side, and zeros behind them; it has room for two vectors more.
template <class Scalar>
void planes_gradient_row(const ReluPoolGradient& problem, std::int64_t image, std::int64_t channel,
                         std::int64_t row, Accumulator<Scalar>* spread) {
  using Sum = Accumulator<Scalar>;
  const std::int64_t width = problem.input.width, pooled_width = problem.output_gradient.width;
  const std::int64_t pooled_row = (row + problem.pool_padding) / 2;
  std::int64_t end = 0;
  if (pooled_row < problem.output_gradient.height) {
    const Scalar* gradients =
        row_of<const Scalar>(problem.output_gradient, image, channel, pooled_row);
    for (std::int64_t column = 0; column < pooled_width; column += kLanes<Sum>) {
      const std::int64_t left = pooled_width - column;
      const Vector<Sum> quarter =
          load_up_to(gradients + column, left < kLanes<Sum> ? left : kLanes<Sum>) * Sum{0.25};
      store(spread + 2 * column, each_lane_twice<Sum>(quarter, 0));
      store(spread + 2 * column + kLanes<Sum>, each_lane_twice<Sum>(quarter, 1));
    }
    end = 2 * pooled_width;
  }
  for (; end < width + problem.pool_padding; ++end) spread[end] = 0;
  const Scalar* activations = row_of<const Scalar>(problem.input, image, channel, row);
  Scalar* destination = row_of<Scalar>(problem.input_gradient, image, channel, row);
  for (std::int64_t column = 0; column < width; column += kLanes<Sum>) {
    const std::int64_t left = width - column;
    const std::int64_t count = left < kLanes<Sum> ? left : kLanes<Sum>;
    store_up_to(destination + column,
                where_active<Sum>(load_up_to(activations + column, count),
                                  load(spread + problem.pool_padding + column)),
                count);
  }
}

// One row of all channels' gradients, channels-last layout.
template <class Scalar>
void channels_last_gradient_row(const ReluPoolGradient& problem, std::int64_t image,
                                std::int64_t row) {
  using Sum = Accumulator<Scalar>;
  const FeatureMaps &input = problem.input, &from = problem.output_gradient;
  const std::int64_t pooled_row = (row + problem.pool_padding) / 2;
  for (std::int64_t column = 0; column < input.width; ++column) {
    const std::int64_t pooled_column = (column + problem.pool_padding) / 2;
    const bool in_window = pooled_row < from.height && pooled_column < from.width;
    const Scalar* activations =
        row_of<const Scalar>(input, image, 0, row) + column * input.column_stride;
    Scalar* destination = row_of<Scalar>(problem.input_gradient, image, 0, row) +
                          column * problem.input_gradient.column_stride;
    const Scalar* gradients = in_window ? row_of<const Scalar>(from, image, 0, pooled_row) +
                                              pooled_column * from.column_stride
                                        : nullptr;
    for (std::int64_t channel = 0; channel < input.channels; channel += kLanes<Sum>) {
      const std::int64_t left = input.channels - channel;
      const std::int64_t count = left < kLanes<Sum> ? left : kLanes<Sum>;
      Vector<Sum> quarter = {};
      if (in_window) quarter = load_up_to(gradients + channel, count) * Sum{0.25};
      store_up_to(destination + channel,
                  where_active<Sum>(load_up_to(activations + channel, count), quarter), count);
    }
  }
}

// Room for a padded row and two vectors more.
template <class Scalar>
std::int64_t line_length(const FeatureMaps& input) {
  return input.width + 2 + 2 * kLanes<Accumulator<Scalar>>;
}

template <class Scalar>
Status forward(const ReluPool& problem, const Execution& execution) {
  using Sum = Accumulator<Scalar>;
  const Team team = team_for(execution, problem.input.elements());
  if (!problem.input.is_planes()) {
    for_rows(team, problem.output, [&](std::int64_t image, std::int64_t row) {
      channels_last_row<Scalar>(problem, image, row);
    });
    return kOk;
  }
  return for_plane_rows<Sum>(
      team, problem.output, line_length<Scalar>(problem.input),
      [&](std::int64_t image, std::int64_t channel, std::int64_t row, Sum* sums) {
        planes_row<Scalar>(problem, image, channel, row, sums);
      });
}

template <class Scalar>
Status gradient(const ReluPoolGradient& problem, const Execution& execution) {
  using Sum = Accumulator<Scalar>;
  const Team team = team_for(execution, problem.input.elements());
  if (!problem.input.is_planes()) {
    for_rows(team, problem.input, [&](std::int64_t image, std::int64_t row) {
      channels_last_gradient_row<Scalar>(problem, image, row);
    });
    return kOk;
  }
  return for_plane_rows<Sum>(
      team, problem.input, line_length<Scalar>(problem.input),
      [&](std::int64_t image, std::int64_t channel, std::int64_t row, Sum* spread) {
        planes_gradient_row<Scalar>(problem, image, channel, row, spread);
      });
}

}  // namespace

Status relu_pool(const ReluPool& problem, const Execution& execution) {
  return for_floating_type(
      problem.type, [&](auto scalar) { return forward<decltype(scalar)>(problem, execution); });
}

Status relu_pool_gradient(const ReluPoolGradient& problem, const Execution& execution) {
  return for_floating_type(
      problem.type, [&](auto scalar) { return gradient<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
