#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/tensors.h"
#include "efficientad/resize_normalize.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColors = 3;

template <class Number>
struct Color {
  Number values[kColors];
};

// One axis of the antialiased resize: `scale` input pixels per output pixel, and the filter's reach
// to either side of its centre.
struct FilterAxis {
  std::int64_t input_length, output_length;
  double scale, support;

  FilterAxis(std::int64_t input, std::int64_t output)
      : input_length(input),
        output_length(output),
        scale(static_cast<double>(input) / static_cast<double>(output)),
        support(scale > 1 ? scale : 1) {}
};

// The input pixels under the triangle of one output pixel: begin + i has the weight
// 1 - |nearest + i * slope|, not yet normalised.
template <class Number>
struct Taps {
  std::int64_t begin;
  int count;
  Number nearest, slope;

  EFFICIENTAD_DEVICE Taps(const FilterAxis& axis, std::int64_t index) {
    const double center = (static_cast<double>(index) + 0.5) * axis.scale;
    const double first = fmax(floor(center - axis.support + 0.5), 0.0);
    const double end =
        fmin(floor(center + axis.support + 0.5), static_cast<double>(axis.input_length));
    begin = static_cast<std::int64_t>(first);
    count = static_cast<int>(end - first);
    nearest = static_cast<Number>((first + 0.5 - center) / axis.support);
    slope = static_cast<Number>(1 / axis.support);
  }

  EFFICIENTAD_DEVICE Number weight(int index) const {
    const Number distance = nearest + static_cast<Number>(index) * slope;
    const Number weight = 1 - (distance < 0 ? -distance : distance);
    return weight > 0 ? weight : 0;
  }
};

// Number is the type of the output, and of the arithmetic.
template <class T>
struct Problem {
  using Number = Accumulator<T>;

  Maps<const T> image;
  Global<Number> output;
  std::int64_t channels, items;
  FilterAxis rows, columns;
  Number scale;
  double mean[kColors], deviation[kColors];
  Color<Number> background;
};

// Colour in [0, 1] of the pixel at `offset`, composited on the background where there is alpha.
template <class T>
EFFICIENTAD_DEVICE Color<Accumulator<T>> color_at(const Problem<T>& problem, std::int64_t offset) {
  using Number = Accumulator<T>;
  Color<Number> color;
  if (problem.channels == 1) {
    const Number gray = widen(problem.image.data.load(offset)) * problem.scale;
    for (Number& value : color.values) value = gray;
    return color;
  }
  for (int i = 0; i < kColors; ++i) {
    color.values[i] =
        widen(problem.image.data.load(offset + i * problem.image.channel)) * problem.scale;
  }
  if (problem.channels == 4) {
    const Number alpha =
        widen(problem.image.data.load(offset + kColors * problem.image.channel)) * problem.scale;
    for (int i = 0; i < kColors; ++i) {
      color.values[i] = color.values[i] * alpha + problem.background.values[i] * (1 - alpha);
    }
  }
  return color;
}

// Neighbouring threads take neighbouring output pixels of a row.
template <class T>
EFFICIENTAD_KERNEL(kThreads)
resize_kernel(Problem<T> problem) {
  using Number = Accumulator<T>;
  const std::int64_t height = problem.rows.output_length, width = problem.columns.output_length;
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t item = std::int64_t{block_index().x} * kThreads + thread_index();
       item < problem.items; item += threads) {
    const std::int64_t x = item % width, y = item / width % height, image = item / width / height;
    const Taps<Number> row_taps(problem.rows, y);
    const Taps<Number> column_taps(problem.columns, x);

    // Rows are summed in double: the value differs little from the mean that is subtracted.
    double row_total = 0;
    Number column_total = 0;
    Color<double> sum = {};
    for (int row = 0; row < row_taps.count; ++row) {
      const std::int64_t offset = image * problem.image.image +
                                  (row_taps.begin + row) * problem.image.row +
                                  column_taps.begin * problem.image.pixel;
      Color<Number> row_sum = {};
      column_total = 0;
      for (int column = 0; column < column_taps.count; ++column) {
        const Number weight = column_taps.weight(column);
        const Color<Number> color = color_at(problem, offset + column * problem.image.pixel);
        for (int i = 0; i < kColors; ++i) row_sum.values[i] += weight * color.values[i];
        column_total += weight;
      }
      const double weight = static_cast<double>(row_taps.weight(row));
      for (int i = 0; i < kColors; ++i) {
        sum.values[i] += weight * static_cast<double>(row_sum.values[i]);
      }
      row_total += weight;
    }
    for (int i = 0; i < kColors; ++i) {
      const double value = sum.values[i] / (row_total * static_cast<double>(column_total));
      problem.output.store(((image * kColors + i) * height + y) * width + x,
                           static_cast<Number>((value - problem.mean[i]) / problem.deviation[i]));
    }
  }
}

template <class T>
Status run(const ResizeNormalize& problem, const Execution& execution) {
  using Number = Accumulator<T>;
  const FeatureMaps& image = problem.image;
  const std::int64_t items = image.batch * problem.output_height * problem.output_width;
  const Problem<T> parameters{
      Maps<const T>(image),
      Global<Number>(static_cast<Number*>(problem.output), items * kColors),
      image.channels,
      items,
      FilterAxis(image.height, problem.output_height),
      FilterAxis(image.width, problem.output_width),
      static_cast<Number>(problem.scale),
      {problem.mean[0], problem.mean[1], problem.mean[2]},
      {problem.deviation[0], problem.deviation[1], problem.deviation[2]},
      {{static_cast<Number>(problem.background[0]), static_cast<Number>(problem.background[1]),
        static_cast<Number>(problem.background[2])}}};
  const LaunchShape shape{grid_over(ceiling_divide(items, kThreads)), kThreads, 0};
  return launch(resize_kernel<T>, shape, execution, parameters);
}

}  // namespace

Status resize_normalize(const ResizeNormalize& problem, const Execution& execution) {
  if (problem.image.batch * problem.output_height * problem.output_width == 0) return kOk;
  switch (problem.type) {
    case ScalarType::uint8:
      return run<std::uint8_t>(problem, execution);
    case ScalarType::uint16:
      return run<std::uint16_t>(problem, execution);
    default:
      return for_floating_type(
          problem.type, [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
  }
}

}  // namespace efficientad::cuda
