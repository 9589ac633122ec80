#include "efficientad/upsample_bilinear.h"

#include "cpu/bilinear.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Copies `width` elements, widened; `line` has room for whole vectors.
template <class Scalar>
void load_row(const Scalar* source, std::int64_t width, Accumulator<Scalar>* line) {
  using Number = Accumulator<Scalar>;
  for (std::int64_t column = 0; column < width; column += kLanes<Number>) {
    const std::int64_t left = width - column;
    store(line + column,
          load_up_to(source + column, left < kLanes<Number> ? left : kLanes<Number>));
  }
}

template <class Scalar, class Number = Accumulator<Scalar>>
Status forward_planes(const UpsampleBilinear& problem, const AxisTable<Number>& rows,
                      const AxisTable<Number>& columns, const Team& team) {
  const FeatureMaps& input = problem.input;
  const FeatureMaps& output = problem.output;
  const std::int64_t all_rows = output.batch * output.channels * output.height;
  const auto resample = [&](int, std::int64_t begin, std::int64_t end) {
    StretchedRows<Number> stretched(columns, input.width, output.width);
    if (!stretched.has_memory()) return kOutOfMemory;
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t row = index % output.height;
      const std::int64_t channel = index / output.height % output.channels;
      const std::int64_t image = index / output.height / output.channels;
      if (row == 0) stretched.forget();
      const auto load_line = [&](std::int64_t input_row, Number* line) {
        load_row(row_of<const Scalar>(input, image, channel, input_row), input.width, line);
      };
      const Number* lower = stretched.row(rows.lower()[row], load_line);
      const Number* upper = stretched.row(rows.upper()[row], load_line);
      blend_rows(lower, upper, rows.fraction()[row], row_of<Scalar>(output, image, channel, row),
                 output.width);
    }
    return kOk;
  };
  return parallel_ranges_with_status(team, all_rows, resample);
}

template <class Scalar, class Number = Accumulator<Scalar>>
void forward_channels_last(const UpsampleBilinear& problem, const AxisTable<Number>& rows,
                           const AxisTable<Number>& columns, const Team& team) {
  const FeatureMaps& input = problem.input;
  const FeatureMaps& output = problem.output;
  for_rows(team, output, [&](std::int64_t image, std::int64_t row) {
    const Scalar* upper_row = row_of<const Scalar>(input, image, 0, rows.lower()[row]);
    const Scalar* lower_row = row_of<const Scalar>(input, image, 0, rows.upper()[row]);
    Scalar* destination = row_of<Scalar>(output, image, 0, row);
    const Number down = rows.fraction()[row];
    for (std::int64_t column = 0; column < output.width; ++column) {
      const std::int64_t left = columns.lower()[column] * input.column_stride;
      const std::int64_t right = columns.upper()[column] * input.column_stride;
      const Number across = columns.fraction()[column];
      Scalar* pixel = destination + column * output.column_stride;
      for (std::int64_t channel = 0; channel < input.channels; channel += kLanes<Number>) {
        const std::int64_t remaining = input.channels - channel;
        const std::int64_t count = remaining < kLanes<Number> ? remaining : kLanes<Number>;
        const auto blend_across = [&](const Scalar* source) {
          const Vector<Number> first = load_up_to(source + left + channel, count);
          const Vector<Number> second = load_up_to(source + right + channel, count);
          return first + across * (second - first);
        };
        const Vector<Number> above = blend_across(upper_row), below = blend_across(lower_row);
        store_up_to(pixel + channel, above + down * (below - above), count);
      }
    }
  });
}

// For each input sample the output samples that read it: outputs [begin(i), end(i)), perhaps with a
// few of weight zero among them. Positions ascend, so the outputs that read one input are
// consecutive.
template <class Number>
class Readers {
 public:
  Readers(const AxisTable<Number>& table, std::int64_t input_length, std::int64_t output_length)
      : first_(input_length + 2) {
    if (first_.data() == nullptr) return;
    std::int64_t output = 0;
    for (std::int64_t input = 0; input < input_length + 2; ++input) {
      while (output < output_length && table.lower()[output] < input - 1) ++output;
      first_[input] = output;
    }
  }

  bool has_memory() const { return first_.data() != nullptr; }
  std::int64_t begin(std::int64_t input) const { return first_.data()[input]; }
  std::int64_t end(std::int64_t input) const { return first_.data()[input + 2]; }

 private:
  // first_[i] is the first output whose lower input is at least i - 1.
  Scratch<std::int64_t> first_;
};

template <class Scalar, class Number = Accumulator<Scalar>>
void gradient_row_planes(const UpsampleBilinearGradient& problem, const AxisTable<Number>& rows,
                         const AxisTable<Number>& columns, const Readers<Number>& row_readers,
                         const Readers<Number>& column_readers, std::int64_t image,
                         std::int64_t channel, std::int64_t row, Number* line) {
  const FeatureMaps& from = problem.output_gradient;
  const FeatureMaps& to = problem.input_gradient;
  for (std::int64_t column = 0; column < from.width; column += kLanes<Number>) {
    const std::int64_t left = from.width - column;
    const std::int64_t count = left < kLanes<Number> ? left : kLanes<Number>;
    Vector<Number> sum = {};
    for (std::int64_t y = row_readers.begin(row); y < row_readers.end(row); ++y) {
      const Scalar* source = row_of<const Scalar>(from, image, channel, y);
      sum += rows.weight(y, row) * load_up_to(source + column, count);
    }
    store(line + column, sum);
  }
  Scalar* destination = row_of<Scalar>(to, image, channel, row);
  for (std::int64_t column = 0; column < to.width; ++column) {
    Number sum = 0;
    for (std::int64_t x = column_readers.begin(column); x < column_readers.end(column); ++x) {
      sum += columns.weight(x, column) * line[x];
    }
    store_one(destination + column, sum);
  }
}

// The memory of one row of channels-last gradients: the outputs' rows that read it, added up, and
// the weights of as many outputs as one input can have readers.
template <class Number>
struct GradientLine {
  explicit GradientLine(const FeatureMaps& from)
      : pixel((from.channels + kLanes<Number> - 1) / kLanes<Number> * kLanes<Number>),
        sums(from.width * pixel),
        weights(from.width > from.height ? from.width : from.height) {}

  std::int64_t pixel;          // numbers of a pixel, in whole vectors
  std::int64_t sums, weights;  // numbers of them
};

// First down, then across: the gradients of the rows that read this one are added up once for all
// of its pixels.
template <class Scalar, class Number = Accumulator<Scalar>>
void gradient_row_channels_last(const UpsampleBilinearGradient& problem,
                                const AxisTable<Number>& rows, const AxisTable<Number>& columns,
                                const Readers<Number>& row_readers,
                                const Readers<Number>& column_readers,
                                const GradientLine<Number>& line, std::int64_t image,
                                std::int64_t row, Number* sums) {
  const FeatureMaps& from = problem.output_gradient;
  const FeatureMaps& to = problem.input_gradient;
  Number* weights = sums + line.sums;
  const std::int64_t top = row_readers.begin(row), readers = row_readers.end(row) - top;
  for (std::int64_t y = 0; y < readers; ++y) weights[y] = rows.weight(top + y, row);
  const Scalar* from_top = row_of<const Scalar>(from, image, 0, top);
  const auto for_each_vector = [&](auto work) {
    for (std::int64_t channel = 0; channel < to.channels; channel += kLanes<Number>) {
      const std::int64_t left = to.channels - channel;
      work(channel, left < kLanes<Number> ? left : kLanes<Number>);
    }
  };
  for (std::int64_t x = 0; x < from.width; ++x) {
    for_each_vector([&](std::int64_t channel, std::int64_t count) {
      const Scalar* source = from_top + x * from.column_stride + channel;
      Vector<Number> sum = {};
      for (std::int64_t y = 0; y < readers; ++y) {
        sum += weights[y] * load_up_to(source + y * from.row_stride, count);
      }
      store(sums + x * line.pixel + channel, sum);
    });
  }
  Scalar* destination = row_of<Scalar>(to, image, 0, row);
  for (std::int64_t column = 0; column < to.width; ++column) {
    const std::int64_t first = column_readers.begin(column), last = column_readers.end(column);
    for (std::int64_t x = first; x < last; ++x) weights[x - first] = columns.weight(x, column);
    for_each_vector([&](std::int64_t channel, std::int64_t count) {
      Vector<Number> sum = {};
      for (std::int64_t x = first; x < last; ++x) {
        sum += weights[x - first] * load(sums + x * line.pixel + channel);
      }
      store_up_to(destination + column * to.column_stride + channel, sum, count);
    });
  }
}

template <class Scalar>
Status forward(const UpsampleBilinear& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const FeatureMaps& input = problem.input;
  const FeatureMaps& output = problem.output;
  const AxisTable<Number> rows(problem.rows, input.height, output.height);
  const AxisTable<Number> columns(problem.columns, input.width, output.width);
  if (!rows.has_memory() || !columns.has_memory()) return kOutOfMemory;
  const Team team = team_for(execution, output.elements());
  if (input.is_planes()) return forward_planes<Scalar>(problem, rows, columns, team);
  forward_channels_last<Scalar>(problem, rows, columns, team);
  return kOk;
}

template <class Scalar>
Status gradient(const UpsampleBilinearGradient& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const FeatureMaps& from = problem.output_gradient;
  const FeatureMaps& to = problem.input_gradient;
  const AxisTable<Number> rows(problem.rows, to.height, from.height);
  const AxisTable<Number> columns(problem.columns, to.width, from.width);
  if (!rows.has_memory() || !columns.has_memory()) return kOutOfMemory;
  const Readers<Number> row_readers(rows, to.height, from.height);
  const Readers<Number> column_readers(columns, to.width, from.width);
  if (!row_readers.has_memory() || !column_readers.has_memory()) return kOutOfMemory;
  const Team team = team_for(execution, from.elements());
  if (!from.is_planes()) {
    const GradientLine<Number> line(from);
    return for_rows_with_line<Number>(team, to, line.sums + line.weights,
                                      [&](std::int64_t image, std::int64_t row, Number* sums) {
                                        gradient_row_channels_last<Scalar>(
                                            problem, rows, columns, row_readers, column_readers,
                                            line, image, row, sums);
                                      });
  }
  return for_plane_rows<Number>(
      team, to, from.width + kLanes<Number>,
      [&](std::int64_t image, std::int64_t channel, std::int64_t row, Number* line) {
        gradient_row_planes<Scalar>(problem, rows, columns, row_readers, column_readers, image,
                                    channel, row, line);
      });
}

}  // namespace

Status upsample_bilinear(const UpsampleBilinear& problem, const Execution& execution) {
  return for_floating_type(
      problem.type, [&](auto scalar) { return forward<decltype(scalar)>(problem, execution); });
}

Status upsample_bilinear_gradient(const UpsampleBilinearGradient& problem,
                                  const Execution& execution) {
  return for_floating_type(
      problem.type, [&](auto scalar) { return gradient<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
