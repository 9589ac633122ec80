#include "efficientad/window_means.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

constexpr int kMaximumWindowKernel = 4;

// Vectors of channels that are summed up side by side: whole cache lines.
constexpr int kVectors = 4;

template <class Number>
struct Channels {
  Vector<Number> vectors[kVectors] = {};

  void operator+=(const Channels& other) {
    for (int i = 0; i < kVectors; ++i) vectors[i] += other.vectors[i];
  }

  // Of pixels `begin` to `end` of a row.
  template <class Scalar>
  void add(const Scalar* row, std::int64_t begin, std::int64_t end, std::int64_t pixel_channels) {
    for (std::int64_t x = begin; x < end; ++x) {
      for (int i = 0; i < kVectors; ++i) {
        vectors[i] += load(row + x * pixel_channels + i * kLanes<Number>);
      }
    }
  }
};

// Each row is summed once along the columns that all taps see; a tap's sum has a few more on either
// side, and counts for every tap row that sees the input row. means(s, r) is where the result for
// that tap is written.
template <class Scalar, class Means>
void reduce_channels(const WindowMeans& problem, const Scalar* input, const Means& means) {
  using Number = Accumulator<Scalar>;
  const int kernel = problem.kernel;
  const std::int64_t rows = problem.height - kernel + 1, columns = problem.width - kernel + 1;
  const std::int64_t first = kernel - 1, last = columns > first ? columns : first;
  Channels<Number> totals[kMaximumWindowKernel][kMaximumWindowKernel];
  for (std::int64_t y = 0; y < problem.height; ++y) {
    const Scalar* row = input + y * problem.width * problem.pixel_channels;
    Channels<Number> seen_by_all;
    seen_by_all.add(row, first, columns, problem.pixel_channels);
    for (int s = 0; s < kernel; ++s) {
      Channels<Number> seen = seen_by_all;
      const std::int64_t end = s + columns;
      seen.add(row, s, first < end ? first : end, problem.pixel_channels);
      seen.add(row, last, end, problem.pixel_channels);
      for (int r = 0; r < kernel; ++r) {
        if (y >= r && y < r + rows) totals[s][r] += seen;
      }
    }
  }
  const Number scale = Number{1} / static_cast<Number>(rows * columns);
  for (int s = 0; s < kernel; ++s) {
    for (int r = 0; r < kernel; ++r) {
      for (int i = 0; i < kVectors; ++i) {
        store(means(s, r) + i * kLanes<Number>, scale * totals[s][r].vectors[i]);
      }
    }
  }
}

template <class Scalar>
void run(const WindowMeans& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const std::int64_t parts = problem.channels / (kVectors * kLanes<Number>);
  const std::int64_t image_elements = problem.height * problem.width * problem.pixel_channels;
  const Team team =
      team_for(execution, problem.batch * problem.height * problem.width * problem.channels);
  parallel_ranges(team, problem.batch * parts, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t image = index / parts;
      const std::int64_t channel = index % parts * kVectors * kLanes<Number>;
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
