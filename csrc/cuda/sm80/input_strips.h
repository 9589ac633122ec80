// Strips of a segment's input in shared memory.
//
// A strip belongs to one block of channels and one column of taps. Its row i, pixel x (of 8) is the
// input pixel in row `tile y * stride - padding + i`, column `(tile x + x) * stride - padding + tap
// column`; zeros outside the input. Pixel (i, x) takes the kBlockBytes at (i * 8 + x) *
// kBlockBytes, and its 16-byte chunk c lies at chunk c ^ x there, so that eight pixels of a row,
// read at the same chunk, come from different banks. Tap row r of output row y is strip row y *
// stride + r.
#pragma once

#include "cuda/device.h"
#include "cuda/operand.h"
#include "cuda/resampling.h"
#include "cuda/tile/spatial_tile.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::cuda {

template <class T>
struct SegmentInput {
  Global<const T> data;
  std::int64_t image;  // elements of an image
  int pixel_channels, first_channel, channels;
  int stride, padding, kernel;
  int height, width;              // that the taps see
  int input_height, input_width;  // as stored
  bool resampled;
  Axis rows, columns;  // from the former to the latter, where it is resampled

  explicit SegmentInput(const Segment& segment, std::int64_t batch)
      : data(static_cast<const T*>(segment.input),
             batch * segment.input_height * segment.input_width * segment.pixel_channels),
        image(segment.input_height * segment.input_width * segment.pixel_channels),
        pixel_channels(static_cast<int>(segment.pixel_channels)),
        first_channel(static_cast<int>(segment.first_channel)),
        channels(static_cast<int>(segment.channels)),
        stride(segment.stride),
        padding(segment.padding),
        kernel(segment.kernel),
        height(static_cast<int>(segment.height)),
        width(static_cast<int>(segment.width)),
        input_height(static_cast<int>(segment.input_height)),
        input_width(static_cast<int>(segment.input_width)),
        resampled(segment.resampled),
        rows(segment.rows, segment.input_height, segment.height),
        columns(segment.columns, segment.input_width, segment.width) {}
};

constexpr int strip_rows(int tile_height, int stride, int kernel) {
  return (tile_height - 1) * stride + kernel;
}

// Where a strip comes from.
struct StripSource {
  int image, y, x;  // of the pixel in its corner, which may lie outside the input
  int channel;      // the first one of the block
};

template <class T>
EFFICIENTAD_DEVICE StripSource strip_source(const SegmentInput<T>& input, const TilePlace& tile,
                                            int group, int block, int tap_column) {
  return {tile.image, tile.y * input.stride - input.padding,
          tile.x * input.stride - input.padding + tap_column,
          input.first_channel + group * input.channels + block * kBlockElements<T>};
}

// Copies a strip asynchronously; a thread keeps to one pixel column and one chunk.
template <int kThreads, class T>
EFFICIENTAD_DEVICE void copy_strip(const SegmentInput<T>& input, const StripSource& source,
                                   int rows, const SharedArray<T>& strips, int slot) {
  constexpr int kRowThreads = kTileWidth * kChunksOfBlock;
  const int thread = static_cast<int>(thread_index());
  const int chunk = thread % kChunksOfBlock, pixel = thread / kChunksOfBlock % kTileWidth;
  const int x = source.x + pixel * input.stride;
  const bool column_inside = x >= 0 && x < input.width;
  const std::int64_t from = source.image * input.image +
                            static_cast<std::int64_t>(x) * input.pixel_channels + source.channel +
                            chunk * kChunkElements<T>;
  const int to = slot + pixel * kBlockElements<T> + (chunk ^ pixel) * kChunkElements<T>;
  const std::int64_t row_elements =
      static_cast<std::int64_t>(input.input_width) * input.pixel_channels;
  for (int row = thread / kRowThreads; row < rows; row += kThreads / kRowThreads) {
    const int y = source.y + row;
    const bool inside = column_inside && y >= 0 && y < input.height;
    copy_async(strips, to + row * kTileWidth * kBlockElements<T>, input.data,
               inside ? from + y * row_elements : 0, inside);
  }
}

// The mean of four chunks, weighted bilinearly.
template <class T>
EFFICIENTAD_DEVICE Vector<T, kChunkElements<T>> interpolate_chunk(const SegmentInput<T>& input,
                                                                  std::int64_t corner,
                                                                  const Sample<float>& row,
                                                                  const Sample<float>& column) {
  constexpr int kChunk = kChunkElements<T>;
  const auto load = [&](int y, int x) {
    const std::int64_t pixel = static_cast<std::int64_t>(y) * input.input_width + x;
    return input.data.template load_vector<kChunk>(corner + pixel * input.pixel_channels);
  };
  const auto above_left = load(row.lower, column.lower),
             above_right = load(row.lower, column.upper);
  const auto below_left = load(row.upper, column.lower),
             below_right = load(row.upper, column.upper);
  Vector<T, kChunk> result;
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const float above = widen(above_left.values[i]) * (1 - column.fraction) +
                        widen(above_right.values[i]) * column.fraction;
    const float below = widen(below_left.values[i]) * (1 - column.fraction) +
                        widen(below_right.values[i]) * column.fraction;
    result.values[i] = as_operand<T>(above * (1 - row.fraction) + below * row.fraction);
  }
  return result;
}

// Computes a strip of the resampled input, with stride 1.
template <int kThreads, class T>
EFFICIENTAD_DEVICE void resample_strip(const SegmentInput<T>& input, const StripSource& source,
                                       int rows, const SharedArray<T>& strips, int slot) {
  constexpr int kRowThreads = kTileWidth * kChunksOfBlock;
  constexpr int kChunk = kChunkElements<T>;
  const int thread = static_cast<int>(thread_index());
  const int chunk = thread % kChunksOfBlock, pixel = thread / kChunksOfBlock % kTileWidth;
  const int x = source.x + pixel;
  const bool column_inside = x >= 0 && x < input.width;
  const Sample<float> column = sample_at<float>(input.columns, x);
  const std::int64_t corner = source.image * input.image + source.channel + chunk * kChunk;
  const int to = slot + pixel * kBlockElements<T> + (chunk ^ pixel) * kChunk;
  for (int row = thread / kRowThreads; row < rows; row += kThreads / kRowThreads) {
    const int y = source.y + row;
    Vector<T, kChunk> values = {};
    if (column_inside && y >= 0 && y < input.height) {
      values = interpolate_chunk(input, corner, sample_at<float>(input.rows, y), column);
    }
    strips.template store_vector<kChunk>(to + row * kTileWidth * kBlockElements<T>, values);
  }
}

}  // namespace efficientad::cuda
