// Bilinear resampling of a tile of output pixels.
#pragma once

#include <cmath>

#include "cuda/device.h"
#include "cuda/tensors.h"

namespace efficientad::cuda {

// One axis of a resampling, with both lengths.
struct Axis {
  double step, start;
  std::int64_t input_length, output_length;

  Axis(const ResamplingAxis& axis, std::int64_t input, std::int64_t output)
      : step(axis.step), start(axis.start), input_length(input), output_length(output) {}
};

// An output sample is (1 - fraction) * input[lower] + fraction * input[upper].
template <class Number>
struct Sample {
  int lower, upper;
  Number fraction;
};

template <class Number>
EFFICIENTAD_DEVICE Sample<Number> sample_at(const Axis& axis, std::int64_t index) {
  const double last = static_cast<double>(axis.input_length - 1);
  const double position =
      fmin(fmax(axis.step * static_cast<double>(index) + axis.start, 0.0), last);
  const double lower = floor(position);
  return {static_cast<int>(lower), static_cast<int>(fmin(lower + 1, last)),
          static_cast<Number>(position - lower)};
}

// A block works on a tile of output pixels, whose coordinates are computed once and kept in shared
// memory: a row for each warp, a column for each lane.
inline constexpr int kTileThreads = 256;
inline constexpr int kTileRows = kTileThreads / kWarpSize;
inline constexpr int kTileColumns = kWarpSize;

inline std::int64_t tiles_along(const Axis& rows) {
  return ceiling_divide(rows.output_length, kTileRows);
}
inline std::int64_t tiles_across(const Axis& columns) {
  return ceiling_divide(columns.output_length, kTileColumns);
}

template <class Number>
constexpr std::size_t tile_samples_bytes() {
  return shared_bytes<Sample<Number>>(kTileRows + kTileColumns);
}

// The samples of the tile whose first output pixel is (first_row, first_column).
template <class Number>
class TileSamples {
 public:
  EFFICIENTAD_DEVICE explicit TileSamples(SharedMemory& memory)
      : samples_(memory.array<Sample<Number>>(kTileRows + kTileColumns)) {}

  // All threads of the block, of which there are at least kTileRows + kTileColumns, take part.
  // Needs a barrier before the samples are used, and another one before they are computed again.
  EFFICIENTAD_DEVICE void compute(const Axis& rows, std::int64_t first_row, const Axis& columns,
                                  std::int64_t first_column) const {
    const int thread = static_cast<int>(thread_index());
    if (thread < kTileRows) {
      samples_.store(thread, sample_at<Number>(rows, first_row + thread));
    } else if (thread < kTileRows + kTileColumns) {
      samples_.store(thread, sample_at<Number>(columns, first_column + thread - kTileRows));
    }
  }

  EFFICIENTAD_DEVICE Sample<Number> row(int index) const { return samples_.load(index); }
  EFFICIENTAD_DEVICE Sample<Number> column(int index) const {
    return samples_.load(kTileRows + index);
  }

 private:
  SharedArray<Sample<Number>> samples_;
};

// The sample of four corners; corner(row, column) gives an input value.
template <class Number, class Corner>
EFFICIENTAD_DEVICE Number interpolate(const Sample<Number>& row, const Sample<Number>& column,
                                      const Corner& corner) {
  const Number upper_weight = column.fraction, lower_weight = 1 - column.fraction;
  const Number above = lower_weight * corner(row.lower, column.lower) +
                       upper_weight * corner(row.lower, column.upper);
  const Number below = lower_weight * corner(row.upper, column.lower) +
                       upper_weight * corner(row.upper, column.upper);
  return (1 - row.fraction) * above + row.fraction * below;
}

}  // namespace efficientad::cuda
