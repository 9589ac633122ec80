#include "efficientad/normalize_and_combine.h"

#include "cpu/bilinear.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// combined = (local - local_a) * local_scale + (global - global_a) * global_scale. Subtracting
// first keeps the precision of maps that are close to their quantiles.
template <class Number>
struct Calibration {
  Number local_a, local_scale, global_a, global_scale;

  explicit Calibration(const NormalizeAndCombine& problem)
      : local_a(static_cast<Number>(problem.local_quantiles.a)),
        local_scale(half_of_a_tenth_over(problem.local_quantiles)),
        global_a(static_cast<Number>(problem.global_quantiles.a)),
        global_scale(half_of_a_tenth_over(problem.global_quantiles)) {}

  template <class Value>
  Value combined(Value local, Value global) const {
    return (local - local_a) * local_scale + (global - global_a) * global_scale;
  }

 private:
  static Number half_of_a_tenth_over(const QuantilePair& quantiles) {
    return static_cast<Number>(0.05 / (quantiles.b - quantiles.a));
  }
};

// Writes the combined map of one image and returns its maximum, NaN if there is a NaN.
template <class Scalar, class Number = Accumulator<Scalar>>
Number combine_image(const Calibration<Number>& calibration, const Scalar* local,
                     const Scalar* global, std::int64_t pixels, Number* combined) {
  Vector<Number> maxima = broadcast(-static_cast<Number>(__builtin_inf()));
  Mask<Number> nans = {};
  for (std::int64_t pixel = 0; pixel < pixels; pixel += kLanes<Number>) {
    const std::int64_t left = pixels - pixel;
    const std::int64_t count = left < kLanes<Number> ? left : kLanes<Number>;
    Vector<Number> value =
        calibration.combined(load_up_to(local + pixel, count), load_up_to(global + pixel, count));
    store_up_to(combined + pixel, value, count);
    for (std::int64_t lane = count; lane < kLanes<Number>; ++lane) value[lane] = maxima[lane];
    nans |= value != value;
    maxima = value > maxima ? value : maxima;
  }
  Number score = maxima[0];
  for (int lane = 1; lane < kLanes<Number>; ++lane) {
    if (maxima[lane] > score) score = maxima[lane];
  }
  return any(nans) ? static_cast<Number>(__builtin_nan("")) : score;
}

template <class Scalar>
Status run(const NormalizeAndCombine& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const Calibration<Number> calibration(problem);
  const std::int64_t pixels = problem.height * problem.width;
  const AxisTable<Number> rows(problem.rows, problem.height, problem.output_height);
  const AxisTable<Number> columns(problem.columns, problem.width, problem.output_width);
  Buffer<Number> combined(problem.batch * pixels + kLanes<Number>);
  if (!rows.has_memory() || !columns.has_memory() || combined.data() == nullptr) {
    return kOutOfMemory;
  }

  // The grid has a sixteenth of the output's pixels: combining it first leaves one map to resample.
  const Scalar* local = static_cast<const Scalar*>(problem.local_map);
  const Scalar* global = static_cast<const Scalar*>(problem.global_map);
  const int grid_threads = useful_threads(execution, problem.batch * pixels);
  parallel_ranges(grid_threads, problem.batch, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t image = begin; image < end; ++image) {
      const std::int64_t first = image * pixels;
      static_cast<Number*>(problem.score)[image] = combine_image(
          calibration, local + first, global + first, pixels, combined.data() + first);
    }
  });

  Scalar* map = static_cast<Scalar*>(problem.map);
  const std::int64_t output_rows = problem.batch * problem.output_height;
  const int threads = useful_threads(execution, output_rows * problem.output_width);
  const auto resample = [&](int, std::int64_t begin, std::int64_t end) {
    StretchedRows<Number> stretched(columns, problem.width, problem.output_width);
    if (!stretched.has_memory()) return kOutOfMemory;
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t image = index / problem.output_height;
      const std::int64_t row = index % problem.output_height;
      if (row == 0) stretched.forget();
      const auto load_line = [&](std::int64_t grid_row, Number* line) {
        std::memcpy(line, combined.data() + image * pixels + grid_row * problem.width,
                    static_cast<std::size_t>(problem.width) * sizeof(Number));
      };
      const Number* lower = stretched.row(rows.lower()[row], load_line);
      const Number* upper = stretched.row(rows.upper()[row], load_line);
      blend_rows(lower, upper, rows.fraction()[row], map + index * problem.output_width,
                 problem.output_width);
    }
    return kOk;
  };
  return parallel_ranges_with_status(threads, output_rows, resample);
}

}  // namespace

Status normalize_and_combine(const NormalizeAndCombine& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
