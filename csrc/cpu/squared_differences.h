// What is done with a convolution's sums where they are differences: their squares are added up.
#pragma once

#include "cpu/convolution.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// The `finish` of a convolution that writes planes
// [output_channels / kPlaneChannels][batch][height][width].
template <class Scalar>
class SquaredDifferences {
 public:
  using Number = Accumulator<Scalar>;
  static_assert(kPlaneChannels % kGroup<Scalar> == 0);

  SquaredDifferences(const ConvolutionGrid& grid, void* output)
      : grid_(grid), output_(static_cast<Number*>(output)) {}

  // Groups come in the order of their channels: the first one of a plane writes, the others add.
  void operator()(const ConvolutionTile& tile, const Number* sums) const {
    const Number scale = Number{1} / static_cast<Number>(grid_.output_channels);
    const std::int64_t plane = tile.first_output / kPlaneChannels;
    const bool first = tile.first_output % kPlaneChannels == 0;
    const std::int64_t line = (plane * grid_.batch + tile.image) * grid_.height + tile.row;
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      Number* map = output_ + (line + row) * grid_.width + tile.column;
      const Number* from = sums + row * tile.pitch * kGroup<Scalar>;
      for (std::int64_t column = 0; column < tile.columns; ++column) {
        Vector<Number> squares = {};
        for (std::int64_t index = 0; index < kGroup<Scalar>; index += kLanes<Number>) {
          const Vector<Number> value = load(from + index);
          squares += value * value;
        }
        const Number mean = scale * sum_of_lanes<Number>(squares);
        map[column] = first ? mean : map[column] + mean;
        from += kGroup<Scalar>;
      }
    }
  }

 private:
  const ConvolutionGrid& grid_;
  Number* const output_;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
