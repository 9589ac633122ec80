// What winograd_convolution reads of a segment: its inputs' values at the points, tile by tile.
#pragma once

#include "cpu/segment_pixels.h"
#include "cpu/winograd_transforms.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

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
        square_to_points<Scalar, kPoints>(
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

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
