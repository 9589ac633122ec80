#include "efficientad/winograd_convolution.h"

#include "cpu/convolution.h"
#include "cpu/feature_writer.h"
#include "cpu/kernels.h"
#include "cpu/squared_differences.h"
#include "cpu/winograd_source.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Tiles whose values at the points are there at a time. More of them read the weights less often,
// fewer leave more of the values in the caches.
constexpr std::int64_t kTilesAtOnce = 64;

// The outputs that are written, and how tiles lie over them.
struct TiledGrid {
  std::int64_t width, height;
  std::int64_t columns, rows;  // of tiles
  std::int64_t rows_at_once;   // that end with a whole window, where they are pooled

  TiledGrid(const ConvolutionGrid& grid, std::int64_t tile)
      : width(grid.pooled ? grid.width / 2 * 2 : grid.width),
        height(grid.pooled ? grid.height / 2 * 2 : grid.height),
        columns((width + tile - 1) / tile),
        rows((height + tile - 1) / tile),
        rows_at_once(grid.pooled && tile % 2 == 1 ? 2 : 1) {}
};

template <class Scalar, int kOutputs, class Finish>
class WinogradTiles {
 public:
  WinogradTiles(const SegmentConvolution& problem, const ConvolutionGrid& grid,
                const TiledGrid& tiled, const TileSource<Scalar>* const* sources,
                const Finish& finish)
      : problem_(problem),
        grid_(grid),
        tiled_(tiled),
        sources_(sources),
        finish_(finish),
        tile_pitch_(grid.second_group < grid.output_channels ? 2 * grid.length : grid.length),
        begin_(kGroup<Scalar>) {}

  // Makes room for so many rows of tiles.
  bool reserve(std::int64_t rows) {
    // One cache line more, so that the points do not fall into the same sets of the caches.
    point_pitch_ = rows * tiled_.columns * tile_pitch_ + kLanes<Scalar>;
    product_pitch_ = rows * tiled_.columns * kGroup<Scalar> + kLanes<Scalar>;
    bool done = begin_.data() != nullptr && values_.reserve(kPlanePoints * point_pitch_) &&
                products_.reserve(kPlanePoints * product_pitch_) &&
                sums_.reserve(tiled_.rows_at_once * kOutputs * tiled_.width * kGroup<Scalar>);
    for (int i = 0; i < problem_.segment_count; ++i) {
      if (sources_[i]->needs_strip()) {
        done = done && strips_[i].reserve(sources_[i]->strip_length(rows * kOutputs));
      }
    }
    if (!done) return false;
    std::memset(begin_.data(), 0, kGroup<Scalar> * sizeof(Scalar));
    return true;
  }

  // Rows of tiles of an image, from one on that begins a window.
  void run(std::int64_t image, std::int64_t row, std::int64_t rows) {
    const Tiles tiles{image, row * kOutputs, rows, tiled_.columns};
    std::int64_t channel = 0;
    for (int i = 0; i < problem_.segment_count; ++i) {
      sources_[i]->transform(tiles, kOutputs, strips_[i].data(), values_.data() + channel,
                             point_pitch_, tile_pitch_, grid_.length);
      channel += problem_.segments[i].channels;
    }
    for (std::int64_t output = 0; output < grid_.output_channels; output += kGroup<Scalar>) {
      multiply(tiles.count(), output);
      for (std::int64_t below = 0; below < rows; below += tiled_.rows_at_once) {
        const std::int64_t left = rows - below;
        finish(tiles, below, left < tiled_.rows_at_once ? left : tiled_.rows_at_once, output);
      }
    }
  }

 private:
  void multiply(std::int64_t tiles, std::int64_t output) {
    const std::int64_t panel_pitch = kPlanePoints * grid_.length * kPanel;
    const std::int64_t offset = 0;
    const Reduction reduction{&offset, 1, 1, 0, grid_.length};
    const Scalar* input = values_.data() + (output < grid_.second_group ? 0 : grid_.length);
    const Scalar* weight =
        static_cast<const Scalar*>(problem_.weight) + output / kPanel * panel_pitch;
    for (std::int64_t point = 0; point < kPlanePoints; ++point) {
      // The value at 1, along both axes, is in every output once: there the bias is added.
      const Scalar* begin =
          point == kPoints + 1 ? static_cast<const Scalar*>(problem_.bias) + output : begin_.data();
      multiplication_.add(tiles, {input + point * point_pitch_, tile_pitch_, weight, panel_pitch},
                          reduction, {begin, 0, products_.data() + point * product_pitch_});
      weight += grid_.length * kPanel;
    }
  }

  // From products to outputs, of rows of tiles from `below` on.
  void finish(const Tiles& tiles, std::int64_t below, std::int64_t rows, std::int64_t output) {
    const std::int64_t first_row = tiles.first_row + below * kOutputs;
    const std::int64_t left = tiled_.height - first_row;
    const std::int64_t height = rows * kOutputs < left ? rows * kOutputs : left;
    const std::int64_t line = tiled_.width * kGroup<Scalar>;
    for (std::int64_t tile = 0; tile < rows * tiles.columns; ++tile) {
      const std::int64_t row = tile / tiles.columns * kOutputs;
      const std::int64_t column = tile % tiles.columns * kOutputs;
      const Scalar* products = products_.data() + (below * tiles.columns + tile) * kGroup<Scalar>;
      Scalar* sums = sums_.data() + row * line + column * kGroup<Scalar>;
      for (std::int64_t channel = 0; channel < kGroup<Scalar>; channel += kLanes<Scalar>) {
        points_to_tile<Scalar, kOutputs>(
            [&](int point_row, int point_column) {
              return load(products + (point_row * kPoints + point_column) * product_pitch_ +
                          channel);
            },
            [&](int below_row, int behind, Vector<Scalar> value) {
              if (row + below_row < height && column + behind < tiled_.width) {
                store(sums + below_row * line + behind * kGroup<Scalar> + channel, value);
              }
            });
      }
    }
    const std::int64_t window = grid_.pooled ? 2 : 1;
    for (std::int64_t row = 0; row < height; row += window) {
      finish_(ConvolutionTile{tiles.image, first_row + row, 0, window, tiled_.width, tiled_.width,
                              output},
              sums_.data() + row * line);
    }
  }

  const SegmentConvolution& problem_;
  const ConvolutionGrid& grid_;
  const TiledGrid& tiled_;
  const TileSource<Scalar>* const* sources_;
  const Finish& finish_;
  const std::int64_t tile_pitch_;
  std::int64_t point_pitch_ = 0, product_pitch_ = 0;
  VectorMultiplication<Scalar> multiplication_;
  Scratch<Scalar> values_;    // [kPlanePoints][tiles][groups][grid.length]
  Scratch<Scalar> products_;  // [kPlanePoints][tiles][kGroup<Scalar>]
  Scratch<Scalar> sums_;      // [rows][tiled_.width][kGroup<Scalar>]
  Scratch<Scalar> begin_;     // zeros
  Scratch<Scalar> strips_[kMaximumSegments];
};

template <class Scalar, int kOutputs, class Finish>
Status convolve_tiles(const SegmentConvolution& problem, const ConvolutionGrid& grid,
                      const Execution& execution, const Finish& finish) {
  const TileSource<Scalar> first(problem, problem.segments[0]);
  const TileSource<Scalar> second(problem, problem.segments[problem.segment_count - 1]);
  if (!first.has_memory() || !second.has_memory()) return kOutOfMemory;
  const TileSource<Scalar>* const sources[] = {&first, &second};
  const TiledGrid tiled(grid, kOutputs);
  if (tiled.rows == 0 || tiled.columns == 0) return kOk;  // nothing is left of a row when pooled
  const std::int64_t unit = tiled.rows_at_once;
  const std::int64_t units = (tiled.rows + unit - 1) / unit;
  const auto work = [&](int, std::int64_t begin, std::int64_t end) {
    WinogradTiles<Scalar, kOutputs, Finish> tiles(problem, grid, tiled, sources, finish);
    std::int64_t at_once = kTilesAtOnce / (unit * tiled.columns);
    if (at_once < 1) at_once = 1;
    if (at_once > units) at_once = units;
    if (!tiles.reserve(at_once * unit)) return kOutOfMemory;
    while (begin < end) {
      const std::int64_t from = begin % units;
      std::int64_t count = at_once;
      if (count > units - from) count = units - from;
      if (count > end - begin) count = end - begin;
      const std::int64_t row = from * unit;
      const std::int64_t left = tiled.rows - row;
      tiles.run(begin / units, row, left < count * unit ? left : count * unit);
      begin += count;
    }
    return kOk;
  };
  const std::int64_t products =
      grid.batch * tiled.rows * tiled.columns * kPlanePoints * grid.output_channels * grid.length;
  return parallel_ranges_with_status(team_for(execution, products), grid.batch * units, work);
}

template <class Scalar>
Status run(const SegmentConvolution& problem, const Execution& execution) {
  const Epilogue epilogue = problem.epilogue;
  const ConvolutionGrid grid{problem.batch,
                             problem.height,
                             problem.width,
                             problem.output_channels,
                             problem.second_group,
                             winograd::channels_of(problem),
                             epilogue == Epilogue::relu_pool};
  const auto with = [&](const auto& finish) {
    return winograd::kernel_of(problem) == 4
               ? convolve_tiles<Scalar, 3>(problem, grid, execution, finish)
               : convolve_tiles<Scalar, 4>(problem, grid, execution, finish);
  };
  if (epilogue == Epilogue::squared_difference) {
    return with(SquaredDifferences<Scalar>(grid, problem.output));
  }
  return with(FeatureWriter<Scalar>(grid, epilogue == Epilogue::relu, problem.output));
}

}  // namespace

Status winograd_convolution(const SegmentConvolution& problem, const Execution& execution) {
  switch (problem.type) {
    case ScalarType::float64:
      return run<double>(problem, execution);
    case ScalarType::float32:
      return run<float>(problem, execution);
    default:
      return "Winograd's convolutions are of float32 or float64";
  }
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
