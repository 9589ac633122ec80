// Convolutions as dot products of gathered inputs, tile by tile, and what is done with the sums.
#pragma once

#include "cpu/dot_products.h"
#include "cpu/relu.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

struct ConvolutionGrid {
  std::int64_t batch, height, width;  // of the convolution's output
  std::int64_t output_channels;
  std::int64_t second_group;  // the first output channel that reads the second group's inputs
  std::int64_t length;        // of a row of weights
  bool pooled;                // an odd last row or column is not needed
};

// Sums of consecutive pixels of one output row; two rows where they are pooled.
struct ConvolutionTile {
  std::int64_t image, row, column;  // of the first pixel
  std::int64_t columns;             // even where they are pooled
};

inline constexpr std::int64_t kConvolutionTilePixels = 32;

// Calls gather(image, row, column, group, numbers), which writes the `length` numbers that an
// output pixel of a group reads, for all pixels of a tile, and then finish(tile, sums) with sums +
// bias, [rows][columns][output_channels]. Tiles are shared between threads by rows.
template <class Number, class Gather, class Finish>
inline Status convolve(const ConvolutionGrid& grid, const Number* weight, const Number* bias,
                       const Execution& execution, const Gather& gather, const Finish& finish) {
  const std::int64_t rows = grid.pooled ? 2 : 1;
  const std::int64_t tile_columns = kConvolutionTilePixels / rows;
  const std::int64_t row_count = grid.height / rows, width = grid.width / rows * rows;
  const std::int64_t outputs = grid.output_channels;
  const auto work = [&](int, std::int64_t begin, std::int64_t end) {
    Buffer<Number> numbers(kConvolutionTilePixels * grid.length);
    Buffer<Number> sums(kConvolutionTilePixels * outputs);
    if (numbers.data() == nullptr || sums.data() == nullptr) return kOutOfMemory;
    const auto sum_group = [&](const ConvolutionTile& tile, int group, std::int64_t first,
                               std::int64_t last) {
      Number* destination = numbers.data();
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t column = 0; column < tile.columns; ++column) {
          gather(tile.image, tile.row + row, tile.column + column, group, destination);
          destination += grid.length;
        }
      }
      dot_products(numbers.data(), rows * tile.columns, weight + first * grid.length, bias + first,
                   last - first, grid.length, sums.data() + first, outputs);
    };
    for (std::int64_t index = begin; index < end; ++index) {
      for (std::int64_t column = 0; column < width; column += tile_columns) {
        const std::int64_t left = width - column;
        const ConvolutionTile tile{index / row_count, index % row_count * rows, column,
                                   left < tile_columns ? left : tile_columns};
        sum_group(tile, 0, 0, grid.second_group);
        if (grid.second_group < outputs) sum_group(tile, 1, grid.second_group, outputs);
        finish(tile, sums.data());
      }
    }
    return kOk;
  };
  const std::int64_t products = grid.batch * grid.height * grid.width * outputs * grid.length;
  return parallel_ranges_with_status(useful_threads(execution, products), grid.batch * row_count,
                                     work);
}

// The epilogues that store feature maps, [batch][height][width][output_channels].

template <class Scalar>
inline void store_tile(const ConvolutionGrid& grid, const ConvolutionTile& tile,
                       const Accumulator<Scalar>* sums, bool rectified, Scalar* output) {
  using Number = Accumulator<Scalar>;
  const std::int64_t pixel = (tile.image * grid.height + tile.row) * grid.width + tile.column;
  Scalar* destination = output + pixel * grid.output_channels;
  const std::int64_t count = tile.columns * grid.output_channels;
  for (std::int64_t index = 0; index < count; index += kLanes<Number>) {
    const Vector<Number> value = load(sums + index);
    store(destination + index, rectified ? relu(value) : value);
  }
}

template <class Scalar>
inline void pool_tile(const ConvolutionGrid& grid, const ConvolutionTile& tile,
                      const Accumulator<Scalar>* sums, Scalar* output) {
  using Number = Accumulator<Scalar>;
  const std::int64_t channels = grid.output_channels, row_length = tile.columns * channels;
  const std::int64_t row = tile.image * (grid.height / 2) + tile.row / 2;
  const std::int64_t pixel = row * (grid.width / 2) + tile.column / 2;
  Scalar* destination = output + pixel * channels;
  for (std::int64_t column = 0; column < tile.columns; column += 2) {
    const Number* corner = sums + column * channels;
    for (std::int64_t channel = 0; channel < channels; channel += kLanes<Number>) {
      const Number* at = corner + channel;
      const Vector<Number> sum =
          (relu(load(at)) + relu(load(at + channels))) +
          (relu(load(at + row_length)) + relu(load(at + row_length + channels)));
      store(destination + channel, sum * Number{0.25});
    }
    destination += channels;
  }
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
