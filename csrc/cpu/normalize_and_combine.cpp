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

// The sum of `planes` planes at up to a vector of pixels.
template <class Scalar>
Vector<Accumulator<Scalar>> sum_of_planes(const Scalar* map, std::int64_t planes,
                                          std::int64_t plane_stride, std::int64_t count) {
  Vector<Accumulator<Scalar>> sum = load_up_to(map, count);
  for (std::int64_t plane = 1; plane < planes; ++plane) {
    sum += load_up_to(map + plane * plane_stride, count);
  }
  return sum;
}

// Writes the combined map of one image and returns its maximum, NaN if there is a NaN.
template <class Scalar, class Number = Accumulator<Scalar>>
Number combine_image(const NormalizeAndCombine& problem, const Calibration<Number>& calibration,
                     std::int64_t image, Number* combined) {
  const std::int64_t pixels = problem.height * problem.width;
  const std::int64_t planes = problem.planes, plane_stride = problem.batch * pixels;
  const Scalar* local = static_cast<const Scalar*>(problem.local_map) + image * pixels;
  const Scalar* global = static_cast<const Scalar*>(problem.global_map) + image * pixels;
  Vector<Number> maxima = broadcast(-static_cast<Number>(__builtin_inf()));
  Mask<Number> nans = {};
  for (std::int64_t pixel = 0; pixel < pixels; pixel += kLanes<Number>) {
    const std::int64_t left = pixels - pixel;
    const std::int64_t count = left < kLanes<Number> ? left : kLanes<Number>;
    Vector<Number> value =
        calibration.combined(sum_of_planes(local + pixel, planes, plane_stride, count),
                             sum_of_planes(global + pixel, planes, plane_stride, count));
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
  Scratch<Number> combined(problem.batch * pixels + kLanes<Number>);
  if (!rows.has_memory() || !columns.has_memory() || combined.data() == nullptr) {
    return kOutOfMemory;
  }

  // The grid has a sixteenth of the output's pixels: combining it first leaves one map to resample.
  const Team grid_team = team_for(execution, problem.planes * problem.batch * pixels);
  parallel_ranges(grid_team, problem.batch, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t image = begin; image < end; ++image) {
      static_cast<Number*>(problem.score)[image] =
          combine_image<Scalar>(problem, calibration, image, combined.data() + image * pixels);
    }
  });

  Scalar* map = static_cast<Scalar*>(problem.map);
  const std::int64_t output_rows = problem.batch * problem.output_height;
  const Team team = team_for(execution, output_rows * problem.output_width);
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
  return parallel_ranges_with_status(team, output_rows, resample);
}

}  // namespace

Status normalize_and_combine(const NormalizeAndCombine& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
