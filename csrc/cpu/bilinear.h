// Bilinear resampling of one plane: each input row is stretched horizontally once, output rows are
// blended from two stretched rows.
#pragma once

#include "cpu/scratch.h"
#include "cpu/simd.h"
#include "efficientad/feature_maps.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// For each output sample the two input samples it blends: (1 - fraction) * lower + fraction *
// upper.
template <class Number>
class AxisTable {
 public:
  AxisTable(const ResamplingAxis& axis, std::int64_t input_length, std::int64_t output_length)
      : lower_(output_length), upper_(output_length), fraction_(output_length) {
    if (!has_memory()) return;
    const double last = static_cast<double>(input_length - 1);
    for (std::int64_t index = 0; index < output_length; ++index) {
      double position = axis.step * static_cast<double>(index) + axis.start;
      position = position < 0 ? 0 : position > last ? last : position;
      const std::int32_t lower = static_cast<std::int32_t>(position);
      lower_[index] = lower;
      upper_[index] = lower + 1 < input_length ? lower + 1 : lower;
      fraction_[index] = static_cast<Number>(position - lower);
    }
  }

  bool has_memory() const {
    return lower_.data() != nullptr && upper_.data() != nullptr && fraction_.data() != nullptr;
  }

  const std::int32_t* lower() const { return lower_.data(); }
  const std::int32_t* upper() const { return upper_.data(); }
  const Number* fraction() const { return fraction_.data(); }

  // The weight of input sample `input` in output sample `output`.
  Number weight(std::int64_t output, std::int64_t input) const {
    Number weight = 0;
    if (lower()[output] == input) weight += 1 - fraction()[output];
    if (upper()[output] == input) weight += fraction()[output];
    return weight;
  }

 private:
  Scratch<std::int32_t> lower_, upper_;
  Scratch<Number> fraction_;
};

// The rows of one plane, stretched to the output's width; the two latest are kept.
template <class Number>
class StretchedRows {
 public:
  StretchedRows(const AxisTable<Number>& columns, std::int64_t input_width,
                std::int64_t output_width)
      : columns_(columns),
        input_width_(input_width),
        output_width_(output_width),
        line_(input_width + kLanes<Number>),
        rows_(2 * (output_width + kLanes<Number>)) {}

  bool has_memory() const { return line_.data() != nullptr && rows_.data() != nullptr; }

  // Another plane follows: the rows kept are not its own.
  void forget() { kept_[0] = kept_[1] = -1; }

  // Row `row` of the plane; load_line(row, line) writes the row as it is. The row asked for before
  // stays valid, older ones do not.
  template <class LoadLine>
  const Number* row(std::int64_t row, const LoadLine& load_line) {
    for (int slot = 0; slot < 2; ++slot) {
      if (kept_[slot] == row) {
        latest_ = slot;
        return slot_data(slot);
      }
    }
    latest_ = 1 - latest_;
    kept_[latest_] = row;
    Number* line = line_.data();
    load_line(row, line);
    Number* stretched = slot_data(latest_);
    const std::int32_t* lower = columns_.lower();
    const std::int32_t* upper = columns_.upper();
    const Number* fraction = columns_.fraction();
    for (std::int64_t index = 0; index < output_width_; ++index) {
      const Number left = line[lower[index]];
      stretched[index] = left + fraction[index] * (line[upper[index]] - left);
    }
    return stretched;
  }

 private:
  Number* slot_data(int slot) { return rows_.data() + slot * (output_width_ + kLanes<Number>); }

  const AxisTable<Number>& columns_;
  std::int64_t input_width_, output_width_;
  Scratch<Number> line_, rows_;
  std::int64_t kept_[2] = {-1, -1};
  int latest_ = 0;
};

// Blends two stretched rows, upper_fraction of the second one, into `width` output elements.
template <class Scalar>
inline void blend_rows(const Accumulator<Scalar>* lower, const Accumulator<Scalar>* upper,
                       Accumulator<Scalar> upper_fraction, Scalar* output, std::int64_t width) {
  using Number = Accumulator<Scalar>;
  for (std::int64_t column = 0; column < width; column += kLanes<Number>) {
    // Stretched rows end in a vector's worth of slack.
    const Vector<Number> first = load(lower + column);
    const Vector<Number> value = first + upper_fraction * (load(upper + column) - first);
    const std::int64_t left = width - column;
    store_up_to(output + column, value, left < kLanes<Number> ? left : kLanes<Number>);
  }
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
