// Convolutions, tile by tile and group by group of output channels.
//
// What the pixels of an output row read lies at even distances in memory: in the input itself, or,
// where that is padded, resampled or of a type that is not multiplied, in a strip of it that is
// made ready for a few rows at a time. A class of sources says which; it has
//   Reduction reduction() const
//     from where an output pixel begins
//   std::int64_t pixel_pitch() const, row_pitch() const, group_pitch() const
//     numbers to the next output pixel, the next output row, and what the second group reads
//   std::int64_t input_length(rows) const
//     numbers that so many output rows read
//   bool needs_strip() const
//   const Input* prepare(image, row, rows, strip) const
//     where the first pixel of the first of these output rows begins
#pragma once

#include <type_traits>

#include "cpu/cache.h"
#include "cpu/multiply.h"
#include "cpu/parallel.h"
#include "cpu/scratch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

struct ConvolutionGrid {
  std::int64_t batch, height, width;  // of the convolution's output
  std::int64_t output_channels;
  std::int64_t second_group;  // the first output channel that reads the second group's inputs
  std::int64_t length;        // of the whole reduction
  bool pooled;                // an odd last row or column is not needed
};

// Sums of consecutive pixels of one or a few output rows and of a group of output channels:
// [rows][pitch][kGroup<Scalar>].
struct ConvolutionTile {
  std::int64_t image, row, column;  // of the first pixel
  std::int64_t rows, columns;       // even where they are pooled
  std::int64_t pitch;               // pixels from one row to the next
  std::int64_t first_output;
};

// Output rows for which a group's weights are read once, out of those that a thread has: as many as
// leave half of the second-level cache to these weights, or kFewestRows, and all blocks alike.
inline constexpr std::int64_t kFewestRows = 4;

template <class Source>
inline std::int64_t rows_of_block(const Source* const* sources, int source_count,
                                  std::int64_t thread_rows) {
  using Input = std::remove_pointer_t<decltype(sources[0]->prepare(0, 0, 0, nullptr))>;
  const auto fits = [&](std::int64_t rows) {
    std::int64_t numbers = 0;
    for (int i = 0; i < source_count; ++i) numbers += sources[i]->input_length(rows);
    return numbers * static_cast<std::int64_t>(sizeof(Input)) <= cpu::second_level_cache() / 2;
  };
  std::int64_t rows = kFewestRows;
  while (rows < thread_rows && fits(rows + 1)) ++rows;
  const std::int64_t blocks = (thread_rows + rows - 1) / rows;
  return (thread_rows + blocks - 1) / blocks;
}

template <class Scalar>
inline std::int64_t rows_of_tile(const ConvolutionGrid& grid) {
  return grid.pooled ? 2 : Multiplication<Scalar>::kRows;
}

template <class Scalar, class Source, class Finish>
class ConvolutionBlocks {
 public:
  using Number = Accumulator<Scalar>;
  using Input = typename Multiplier<Scalar>::Input;
  static constexpr int kMaximumSources = 2;

  ConvolutionBlocks(const ConvolutionGrid& grid, const Source* const* sources, int source_count,
                    const Scalar* weight, const Number* bias, const Finish& finish)
      : grid_(grid),
        sources_(sources),
        source_count_(source_count),
        weight_(weight),
        bias_(bias),
        finish_(finish),
        rows_(rows_of_tile<Scalar>(grid)),
        sums_(rows_ * kColumns<Scalar> * kGroup<Scalar>) {}

  // Makes room for blocks of so many rows, and for what is read beyond them where the last pixels
  // of a row are fewer than kColumns.
  bool reserve(std::int64_t rows) {
    bool done = sums_.data() != nullptr;
    for (int i = 0; i < source_count_; ++i) {
      if (sources_[i]->needs_strip()) {
        const std::int64_t beyond = kColumns<Scalar> * sources_[i]->pixel_pitch();
        done = done && strips_[i].reserve(sources_[i]->input_length(rows) + beyond);
      }
    }
    return done;
  }

  // Output rows [row, row + rows) of an image: whole tiles, but for the last row of the image.
  void run(std::int64_t image, std::int64_t row, std::int64_t rows) {
    const Input* inputs[kMaximumSources] = {};
    for (int i = 0; i < source_count_; ++i) {
      inputs[i] = sources_[i]->prepare(image, row, rows, strips_[i].data());
    }
    const std::int64_t width = grid_.pooled ? grid_.width / 2 * 2 : grid_.width;
    for (std::int64_t output = 0; output < grid_.output_channels; output += kGroup<Scalar>) {
      for (std::int64_t below = 0; below < rows; below += rows_) {
        const std::int64_t rows_left = rows - below;
        for (std::int64_t column = 0; column < width; column += kColumns<Scalar>) {
          const std::int64_t columns_left = width - column;
          const ConvolutionTile tile{
              image,
              row + below,
              column,
              rows_left < rows_ ? rows_left : rows_,
              columns_left < kColumns<Scalar> ? columns_left : kColumns<Scalar>,
              kColumns<Scalar>,
              output};
          sum(tile, below, inputs);
          finish_(tile, sums_.data());
        }
      }
    }
    fence_streams();
  }

 private:
  void sum(const ConvolutionTile& tile, std::int64_t below, const Input* const* inputs) {
    const std::int64_t panel_pitch = grid_.length * kPanel;
    Sums<Scalar> sums{bias_ + tile.first_output, 0, sums_.data()};
    const Scalar* weight = weight_ + tile.first_output / kPanel * panel_pitch;
    for (int i = 0; i < source_count_; ++i) {
      const Source& source = *sources_[i];
      const std::int64_t group = tile.first_output < grid_.second_group ? 0 : source.group_pitch();
      const Input* input =
          inputs[i] + below * source.row_pitch() + tile.column * source.pixel_pitch() + group;
      const Reduction reduction = source.reduction();
      multiplication_.add(tile.rows, tile.columns,
                          {input, source.pixel_pitch(), weight, panel_pitch, source.row_pitch()},
                          reduction, sums);
      weight += reduction.count * reduction.taps * reduction.length * kPanel;
      sums = {sums_.data(), kGroup<Scalar>, sums_.data()};
    }
  }

  const ConvolutionGrid& grid_;
  const Source* const* sources_;
  const int source_count_;
  const Scalar* weight_;
  const Number* bias_;
  const Finish& finish_;
  const std::int64_t rows_;  // of a tile
  Multiplication<Scalar> multiplication_;
  Scratch<Number> sums_;
  Scratch<Input> strips_[kMaximumSources];
};

// Calls finish(tile, sums), the bias being in the sums, for all tiles. Weights are in
// kWeightLayout<Scalar>. Rows are shared between threads.
template <class Scalar, class Source, class Finish>
inline Status convolve(const ConvolutionGrid& grid, const Source* const* sources, int source_count,
                       const void* weight, const void* bias, const Execution& execution,
                       const Finish& finish) {
  using Number = Accumulator<Scalar>;
  const std::int64_t tile_rows = rows_of_tile<Scalar>(grid);
  const std::int64_t height = grid.pooled ? grid.height / 2 * 2 : grid.height;
  const std::int64_t tiles_along = (height + tile_rows - 1) / tile_rows;
  const auto work = [&](int, std::int64_t begin, std::int64_t end) {
    ConvolutionBlocks<Scalar, Source, Finish> blocks(grid, sources, source_count,
                                                     static_cast<const Scalar*>(weight),
                                                     static_cast<const Number*>(bias), finish);
    const std::int64_t longest = end - begin < tiles_along ? end - begin : tiles_along;
    const std::int64_t tiles =
        (rows_of_block(sources, source_count, longest * tile_rows) + tile_rows - 1) / tile_rows;
    if (!blocks.reserve(tiles * tile_rows)) return kOutOfMemory;
    while (begin < end) {
      const std::int64_t first = begin % tiles_along;
      std::int64_t count = tiles;
      if (count > tiles_along - first) count = tiles_along - first;
      if (count > end - begin) count = end - begin;
      const std::int64_t row = first * tile_rows, left = height - row;
      blocks.run(begin / tiles_along, row, count * tile_rows < left ? count * tile_rows : left);
      begin += count;
    }
    return kOk;
  };
  const std::int64_t products =
      grid.batch * grid.height * grid.width * grid.output_channels * grid.length;
  return parallel_ranges_with_status(team_for(execution, products), grid.batch * tiles_along, work);
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
