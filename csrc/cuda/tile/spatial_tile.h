// Output tiles of a convolution, and how a warp's sums lie in them.
//
// A tile is 8 pixels wide and a multiple of 2 pixels high; pixel (y, x) of it is row y * 8 + x of
// the matrix product. So the 16 rows that a warp's fragment covers are a strip of two pixel rows:
//
//   lane l, with g = l / 4 and t = l % 4, and block j of 8 output channels:
//     sums[4 j + 0], sums[4 j + 1]   pixel (0, g) of the strip, channels 8 j + 2 t, 8 j + 2 t + 1
//     sums[4 j + 2], sums[4 j + 3]   pixel (1, g) of the strip, the same channels
//
// which is the layout of mma.m16n8 and of each warp of wgmma.m64. A 2x2 window of pixels lies in
// the lanes l and l ^ 4.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/tensors.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::cuda {

inline constexpr int kTileWidth = 8;
inline constexpr int kStripHeight = 2;

// Elements of one block of channels, and of 16 bytes of it.
template <class T>
inline constexpr int kBlockElements = static_cast<int>(kBlockBytes / sizeof(T));
template <class T>
inline constexpr int kChunkElements = static_cast<int>(16 / sizeof(T));
inline constexpr int kChunksOfBlock = static_cast<int>(kBlockBytes / 16);

// The place of one tile: `channel` is its first output channel.
struct TilePlace {
  int image, y, x, channel;
};

// All tiles of a convolution. Tiles of the same pixels follow each other, so that their input is
// still in the cache.
struct TileGrid {
  int across, along, channel_tiles, tile_height, tile_channels, count;

  TileGrid(const SegmentConvolution& problem, int tile_height, int tile_channels)
      : across(static_cast<int>(ceiling_divide(problem.width, kTileWidth))),
        along(static_cast<int>(ceiling_divide(problem.height, tile_height))),
        channel_tiles(static_cast<int>(problem.output_channels / tile_channels)),
        tile_height(tile_height),
        tile_channels(tile_channels),
        count(static_cast<int>(problem.batch) * along * across * channel_tiles) {}

  EFFICIENTAD_DEVICE TilePlace place(int tile) const {
    const int channel = tile % channel_tiles * tile_channels;
    const int spatial = tile / channel_tiles;
    const int x = spatial % across * kTileWidth;
    const int y = spatial / across % along * tile_height;
    return {spatial / across / along, y, x, channel};
  }
};

}  // namespace efficientad::cuda
