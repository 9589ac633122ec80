#include "efficientad/winograd_convolution.h"

#include "cpu/convolution.h"
#include "cpu/feature_writer.h"
#include "cpu/kernels.h"
#include "cpu/segment_pixels.h"
#include "cpu/squared_differences.h"
#include "cpu/winograd_transforms.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

constexpr std::int64_t kPlanePoints = kPoints * kPoints;

// Tiles whose values at the points are there at a time. More of them read the weights less often,
// fewer leave more of the values in the caches.
constexpr std::int64_t kTilesAtOnce = 64;

// A rectangle of tiles: `rows` rows of `columns` tiles each, from this output row on.
struct Tiles {
  std::int64_t image, first_row;
  std::int64_t rows, columns;

  std::int64_t count() const { return rows * columns; }
};

// One segment's inputs, read in place or, where they are padded or resampled, from a strip
// [rows][width][channels].
template <class Scalar>
class TileSource {
 public:
  TileSource(const SegmentConvolution& problem, const Segment& segment)
      : problem_(problem),
        segment_(segment),
        pixels_(problem, segment),
        kernel_(winograd::kernel_of(problem)),
        width_(problem.width - 1 + kernel_),
        in_place_(!segment.resampled && segment.padding == 0 &&
                  problem.height - 1 + kernel_ <= segment.height && width_ <= segment.width) {}

  bool has_memory() const { return pixels_.has_memory(); }
  std::int64_t channels() const { return pixels_.channels(); }
  bool needs_strip() const { return !in_place_; }
  std::int64_t strip_length(std::int64_t output_rows) const {
    return (output_rows - 1 + kernel_) * width_ * channels();
  }

  // Writes the values at the points: [kPlanePoints][tiles][...], where the points lie `point_pitch`
  // and tiles `tile_pitch` numbers apart, and so do groups by `group_pitch`.
  void transform(const Tiles& tiles, std::int64_t outputs, Scalar* strip, Scalar* values,
                 std::int64_t point_pitch, std::int64_t tile_pitch,
                 std::int64_t group_pitch) const {
    const std::int64_t left = problem_.height - tiles.first_row;
    const std::int64_t wanted = tiles.rows * outputs;
    const std::int64_t rows = (wanted < left ? wanted : left) - 1 + kernel_;
    const Scalar* inputs = strip;
    std::int64_t pixel_pitch = channels(), row_pitch = width_ * channels();
    if (in_place_) {
      inputs = pixels_.stored(tiles.image, tiles.first_row, 0);
      pixel_pitch = segment_.pixel_channels;
      row_pitch = segment_.input_width * pixel_pitch;
    } else {
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t column = 0; column < width_; ++column) {
          pixels_.read(tiles.image, tiles.first_row + row - segment_.padding,
                       column - segment_.padding, strip + row * row_pitch + column * pixel_pitch,
                       SegmentPixels<Scalar>::kBlockChannels);
        }
      }
    }
    for (std::int64_t tile = 0; tile < tiles.count(); ++tile) {
      // Pixels beyond those that any output reads take part in sums that nobody reads.
      std::int64_t row_offsets[kPoints], column_offsets[kPoints];
      for (std::int64_t i = 0; i < kPoints; ++i) {
        const std::int64_t row = tile / tiles.columns * outputs + i;
        const std::int64_t column = tile % tiles.columns * outputs + i;
        row_offsets[i] = (row < rows ? row : rows - 1) * row_pitch;
        column_offsets[i] = (column < width_ ? column : width_ - 1) * pixel_pitch;
      }
      Scalar* const first = values + tile * tile_pitch;
      for (std::int64_t channel = 0; channel < channels(); channel += kLanes<Scalar>) {
        const Scalar* const from = inputs + channel;
        Scalar* const to =
            first +
            (channel < segment_.channels ? channel : channel - segment_.channels + group_pitch);
        tile_to_points<Scalar>(
            [&](int row, int column) {
              return load(from + row_offsets[row] + column_offsets[column]);
            },
            [&](int row, int column, Vector<Scalar> value) {
              store(to + (row * kPoints + column) * point_pitch, value);
            });
      }
    }
  }

 private:
  const SegmentConvolution& problem_;
  const Segment& segment_;
  const SegmentPixels<Scalar> pixels_;
  const std::int64_t kernel_;  // of the problem
  const std::int64_t width_;   // that a row of outputs reads
  const bool in_place_;
};

template <class Scalar, int kOutputs, class Finish>
class WinogradTiles {
 public:
  WinogradTiles(const SegmentConvolution& problem, const ConvolutionGrid& grid,
                const TileSource<Scalar>* const* sources, const Finish& finish)
      : problem_(problem),
        grid_(grid),
        sources_(sources),
        finish_(finish),
        groups_(grid.second_group < grid.output_channels ? 2 : 1),
        width_(grid.pooled ? grid.width / 2 * 2 : grid.width),
        height_(grid.pooled ? grid.height / 2 * 2 : grid.height),
        tile_pitch_(groups_ * grid.length),
        begin_(kGroup<Scalar>) {}

  bool reserve(std::int64_t rows, std::int64_t rows_at_once) {
    const std::int64_t columns = tile_columns();
    // One cache line more, so that the points do not fall into the same sets of the caches.
    point_pitch_ = rows * columns * tile_pitch_ + kLanes<Scalar>;
    product_pitch_ = rows * columns * kGroup<Scalar> + kLanes<Scalar>;
    bool done = begin_.data() != nullptr && values_.reserve(kPlanePoints * point_pitch_) &&
                products_.reserve(kPlanePoints * product_pitch_) &&
                sums_.reserve(rows_at_once * kOutputs * width_ * kGroup<Scalar>);
    for (int i = 0; i < problem_.segment_count; ++i) {
      if (sources_[i]->needs_strip()) {
        done = done && strips_[i].reserve(sources_[i]->strip_length(rows * kOutputs));
      }
    }
    if (!done) return false;
    std::memset(begin_.data(), 0, kGroup<Scalar> * sizeof(Scalar));
    return true;
  }

  std::int64_t tile_columns() const { return (width_ + kOutputs - 1) / kOutputs; }
  std::int64_t tile_rows() const { return (height_ + kOutputs - 1) / kOutputs; }

  // Rows of tiles of an image; `rows_at_once` of them end with a whole window where they are
  // pooled.
  void run(std::int64_t image, std::int64_t row, std::int64_t rows, std::int64_t rows_at_once) {
    const Tiles tiles{image, row * kOutputs, rows, tile_columns()};
    std::int64_t channel = 0;
    for (int i = 0; i < problem_.segment_count; ++i) {
      sources_[i]->transform(tiles, kOutputs, strips_[i].data(), values_.data() + channel,
                             point_pitch_, tile_pitch_, grid_.length);
      channel += problem_.segments[i].channels;
    }
    for (std::int64_t output = 0; output < grid_.output_channels; output += kGroup<Scalar>) {
      multiply(tiles.count(), output);
      for (std::int64_t below = 0; below < rows; below += rows_at_once) {
        const std::int64_t left = rows - below;
        finish(tiles, below, left < rows_at_once ? left : rows_at_once, output);
      }
    }
  }

 private:
  void multiply(std::int64_t tiles, std::int64_t output) {
    const std::int64_t panel_pitch = kPlanePoints * grid_.length * kPanel;
    const std::int64_t offset = 0;
    const Reduction reduction{&offset, 1, grid_.length};
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
    const std::int64_t left = height_ - first_row;
    const std::int64_t height = rows * kOutputs < left ? rows * kOutputs : left;
    const std::int64_t line = width_ * kGroup<Scalar>;
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
              if (row + below_row < height && column + behind < width_) {
                store(sums + below_row * line + behind * kGroup<Scalar> + channel, value);
              }
            });
      }
    }
    const std::int64_t window = grid_.pooled ? 2 : 1;
    for (std::int64_t row = 0; row < height; row += window) {
      finish_(ConvolutionTile{tiles.image, first_row + row, 0, width_, output},
              sums_.data() + row * line);
    }
  }

  const SegmentConvolution& problem_;
  const ConvolutionGrid& grid_;
  const TileSource<Scalar>* const* sources_;
  const Finish& finish_;
  const std::int64_t groups_;
  const std::int64_t width_, height_;  // that is written
  const std::int64_t tile_pitch_;
  std::int64_t point_pitch_ = 0, product_pitch_ = 0;
  VectorMultiplication<Scalar> multiplication_;
  Scratch<Scalar> values_;    // [kPlanePoints][tiles][groups][grid.length]
  Scratch<Scalar> products_;  // [kPlanePoints][tiles][kGroup<Scalar>]
  Scratch<Scalar> sums_;      // [rows][width_][kGroup<Scalar>]
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
  // Rows of tiles that end with a whole window of the pooling.
  const std::int64_t unit = grid.pooled && kOutputs % 2 == 1 ? 2 : 1;
  const std::int64_t height = grid.pooled ? grid.height / 2 * 2 : grid.height;
  const std::int64_t tile_rows = (height + kOutputs - 1) / kOutputs;
  const std::int64_t units = (tile_rows + unit - 1) / unit;
  const std::int64_t width =
      ((grid.pooled ? grid.width / 2 * 2 : grid.width) + kOutputs - 1) / kOutputs;
  const auto work = [&](int, std::int64_t begin, std::int64_t end) {
    WinogradTiles<Scalar, kOutputs, Finish> tiles(problem, grid, sources, finish);
    std::int64_t at_once = kTilesAtOnce / (unit * width);
    if (at_once < 1) at_once = 1;
    if (at_once > units) at_once = units;
    if (!tiles.reserve(at_once * unit, unit)) return kOutOfMemory;
    while (begin < end) {
      const std::int64_t from = begin % units;
      std::int64_t count = at_once;
      if (count > units - from) count = units - from;
      if (count > end - begin) count = end - begin;
      const std::int64_t row = from * unit;
      const std::int64_t rows = tile_rows - row < count * unit ? tile_rows - row : count * unit;
      tiles.run(begin / units, row, rows, unit);
      begin += count;
    }
    return kOk;
  };
  const std::int64_t products =
      grid.batch * tile_rows * width * kPlanePoints * grid.output_channels * grid.length;
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
