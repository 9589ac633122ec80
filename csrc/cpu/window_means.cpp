#include "efficientad/window_means.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

constexpr int kMaximumWindowKernel = 4;

// Each input row is summed along the columns of a tap once, and counts for every tap row that sees
// it. One vector of channels: means(s, r) is where the result for that tap is written.
template <class Scalar, class Means>
void reduce_channels(const WindowMeans& problem, const Scalar* input, const Means& means) {
  using Number = Accumulator<Scalar>;
  const int kernel = problem.kernel;
  const std::int64_t rows = problem.height - kernel + 1, columns = problem.width - kernel + 1;
  const Number scale = Number{1} / static_cast<Number>(rows * columns);
  for (int s = 0; s < kernel; ++s) {
    Vector<Number> totals[kMaximumWindowKernel] = {};
    for (std::int64_t y = 0; y < problem.height; ++y) {
      const Scalar* pixel = input + (y * problem.width + s) * problem.pixel_channels;
      Vector<Number> row_sum = {};
      for (std::int64_t x = 0; x < columns; ++x) {
        row_sum += load(pixel + x * problem.pixel_channels);
      }
      for (int r = 0; r < kernel; ++r) {
        if (y >= r && y < r + rows) totals[r] += row_sum;
      }
    }
    for (int r = 0; r < kernel; ++r) store(means(s, r), scale * totals[r]);
  }
}

template <class Scalar>
void run(const WindowMeans& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const std::int64_t vectors = problem.channels / kLanes<Number>;
  const std::int64_t image_elements = problem.height * problem.width * problem.pixel_channels;
  const Team team =
      team_for(execution, problem.batch * problem.height * problem.width * problem.channels);
  parallel_ranges(team, problem.batch * vectors, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t image = index / vectors, channel = index % vectors * kLanes<Number>;
      const Scalar* input = static_cast<const Scalar*>(problem.input) + image * image_elements +
                            problem.first_channel + channel;
      const auto means = [&](int s, int r) {
        const std::int64_t tap = (image * problem.kernel + s) * problem.kernel + r;
        return static_cast<Number*>(problem.output) + tap * problem.channels + channel;
      };
      reduce_channels(problem, input, means);
    }
  });
}

}  // namespace

Status window_means(const WindowMeans& problem, const Execution& execution) {
  return for_floating_type(problem.type, [&](auto scalar) {
    run<decltype(scalar)>(problem, execution);
    return kOk;
  });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
