#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/tensors.h"
#include "efficientad/scalar_dispatch.h"
#include "efficientad/window_means.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMaximumKernel = 4;
// Channels that a thread takes.
constexpr int kWidth = 2;

template <class T>
struct Problem {
  using Number = Accumulator<T>;

  Global<const T> input;
  Global<Number> row_sums;  // [batch][height][tap columns][channels]
  Global<Number> output;    // [batch][tap columns][tap rows][channels]
  std::int64_t batch, height, width, pixel_channels, first_channel, channels;
  int kernel;

  EFFICIENTAD_DEVICE std::int64_t windows_down() const { return height - kernel + 1; }
  EFFICIENTAD_DEVICE std::int64_t windows_across() const { return width - kernel + 1; }
};

// For every row of the input and every tap column, the sum over the columns that the tap sees.
template <class T>
EFFICIENTAD_KERNEL(kThreads)
row_sums_kernel(Problem<T> problem) {
  using Number = Accumulator<T>;
  const std::int64_t vectors = problem.channels / kWidth;
  const std::int64_t items = problem.batch * problem.height * vectors;
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t item = std::int64_t{block_index().x} * kThreads + thread_index(); item < items;
       item += threads) {
    const std::int64_t row = item / vectors, channel = item % vectors * kWidth;
    const std::int64_t first =
        row * problem.width * problem.pixel_channels + problem.first_channel + channel;
    Number sums[kMaximumKernel][kWidth] = {};
#pragma unroll 4
    for (std::int64_t x = 0; x < problem.width; ++x) {
      const auto values =
          problem.input.template load_vector<kWidth>(first + x * problem.pixel_channels);
#pragma unroll
      for (int tap = 0; tap < kMaximumKernel; ++tap) {
        if (x < tap || x >= tap + problem.windows_across()) continue;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sums[tap][i] += widen(values.values[i]);
      }
    }
#pragma unroll
    for (int tap = 0; tap < kMaximumKernel; ++tap) {
      if (tap >= problem.kernel) break;
      problem.row_sums.template store_vector<kWidth>(
          (row * problem.kernel + tap) * problem.channels + channel,
          {{sums[tap][0], sums[tap][1]}});
    }
  }
}

template <class T>
EFFICIENTAD_KERNEL(kThreads)
window_means_kernel(Problem<T> problem) {
  using Number = Accumulator<T>;
  const std::int64_t row_elements = problem.kernel * problem.channels;
  const std::int64_t items = problem.batch * problem.kernel * row_elements;
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t item = std::int64_t{block_index().x} * kThreads + thread_index(); item < items;
       item += threads) {
    const std::int64_t channel = item % problem.channels;
    const std::int64_t tap_row = item / problem.channels % problem.kernel;
    const std::int64_t tap_column = item / row_elements % problem.kernel;
    const std::int64_t image = item / row_elements / problem.kernel;
    const std::int64_t first =
        (image * problem.height + tap_row) * row_elements + tap_column * problem.channels + channel;
    Number sum = 0;
#pragma unroll 4
    for (std::int64_t y = 0; y < problem.windows_down(); ++y) {
      sum += problem.row_sums.load(first + y * row_elements);
    }
    problem.output.store(
        item, sum / static_cast<Number>(problem.windows_down() * problem.windows_across()));
  }
}

template <class T>
Status run(const WindowMeans& problem, const Execution& execution) {
  using Number = Accumulator<T>;
  const std::int64_t row_sums = problem.batch * problem.height * problem.kernel * problem.channels;
  const std::int64_t outputs = problem.batch * problem.kernel * problem.kernel * problem.channels;
  const Problem<T> parameters{
      Global<const T>(static_cast<const T*>(problem.input),
                      problem.batch * problem.height * problem.width * problem.pixel_channels),
      Global<Number>(static_cast<Number*>(problem.workspace), row_sums),
      Global<Number>(static_cast<Number*>(problem.output), outputs),
      problem.batch,
      problem.height,
      problem.width,
      problem.pixel_channels,
      problem.first_channel,
      problem.channels,
      problem.kernel};
  const std::int64_t items = problem.batch * problem.height * problem.channels / kWidth;
  const LaunchShape rows{grid_over(ceiling_divide(items, kThreads)), kThreads, 0};
  const Status status = launch(row_sums_kernel<T>, rows, execution, parameters);
  if (status != kOk) return status;
  const LaunchShape windows{grid_over(ceiling_divide(outputs, kThreads)), kThreads, 0};
  return launch(window_means_kernel<T>, windows, execution, parameters);
}

}  // namespace

std::size_t window_means_workspace(const WindowMeans& problem) {
  const std::size_t number = problem.type == ScalarType::float64 ? sizeof(double) : sizeof(float);
  return static_cast<std::size_t>(problem.batch * problem.height * problem.kernel *
                                  problem.channels) *
         number;
}

Status window_means(const WindowMeans& problem, const Execution& execution) {
  if (problem.batch == 0) return kOk;
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda
