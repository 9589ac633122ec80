// Iteration over all elements of feature maps whose order does not matter.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/tensors.h"
#include "efficientad/feature_maps.h"

namespace efficientad::cuda {

// Feature maps of the same shape and layout as runs of `length` elements, each contiguous in every
// one of them: whole images where nothing was sliced away between channels (planes) or pixels
// (channels-last), otherwise single channels or pixels. Runs are cut into tiles, the unit of work
// of a warp.
struct Runs {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarpSize;
  static constexpr int kTileElements = 1024;
  static constexpr int kElementsPerBlock = 4096;

  std::int64_t length, per_image, tiles_per_run, tiles;

  template <class... Maps>
  explicit Runs(const FeatureMaps& first, const Maps&... others)
      : Runs(first, is_dense(first) && (is_dense(others) && ...)) {}

  // One run of `count` elements.
  explicit Runs(std::int64_t count)
      : length(count),
        per_image(1),
        tiles_per_run(ceiling_divide(count, kTileElements)),
        tiles(tiles_per_run) {}

  // Blocks for a launch with kThreads each, so that each of them has enough to do.
  Extent grid(std::int64_t maximum = kMaximumBlocks) const {
    const std::int64_t elements = tiles / (tiles_per_run > 0 ? tiles_per_run : 1) * length;
    return grid_over(ceiling_divide(elements, kElementsPerBlock), maximum);
  }

  static std::int64_t run_stride(const FeatureMaps& maps) {
    return maps.is_planes() ? maps.channel_stride : maps.column_stride;
  }

  // Calls visit(image, run of the image, element of the run) for the elements of all tiles of this
  // warp, in steps of Width; Width must divide the length. Lanes beside each other get vectors
  // beside each other.
  template <int Width, class Visit>
  EFFICIENTAD_DEVICE void visit_vectors(const Visit& visit) const {
    const int lane = static_cast<int>(thread_index()) % kWarpSize;
    const int warp = static_cast<int>(thread_index()) / kWarpSize;
    for (std::int64_t tile = std::int64_t{block_index().x} * kWarps + warp; tile < tiles;
         tile += std::int64_t{grid_blocks().x} * kWarps) {
      const std::int64_t run = tile / tiles_per_run;
      const std::int64_t image = run / per_image, run_of_image = run % per_image;
      const std::int64_t begin = tile % tiles_per_run * kTileElements;
      const std::int64_t end = lesser(begin + kTileElements, length);
      for (std::int64_t element = begin + lane * Width; element < end;
           element += kWarpSize * Width) {
        visit(image, run_of_image, element);
      }
    }
  }

 private:
  Runs(const FeatureMaps& maps, bool dense)
      : length(maps.is_planes() ? maps.pixels() : maps.channels),
        per_image(maps.is_planes() ? maps.channels : maps.pixels()) {
    if (dense) {
      length *= per_image;
      per_image = 1;
    }
    tiles_per_run = ceiling_divide(length, kTileElements);
    tiles = maps.batch * per_image * tiles_per_run;
  }

  static bool is_dense(const FeatureMaps& maps) {
    return maps.is_planes() ? maps.channel_stride == maps.pixels()
                            : maps.column_stride == maps.channels;
  }
};

// Feature maps whose elements are addressed by runs.
template <class T>
struct RunMaps {
  Global<T> data;
  std::int64_t image, run;

  explicit RunMaps(const FeatureMaps& maps)
      : data(static_cast<T*>(maps.data), Maps<T>::reach(maps)),
        image(maps.batch_stride),
        run(Runs::run_stride(maps)) {}

  EFFICIENTAD_DEVICE std::int64_t offset(std::int64_t image_index, std::int64_t run_index,
                                         std::int64_t element) const {
    return image_index * image + run_index * run + element;
  }
};

// Whether all elements of these maps can be visited by vectors.
template <class T, class... Tensors>
bool is_vectorizable(const Runs& runs, const Tensors&... maps) {
  return (is_vectorizable(maps.data, sizeof(T),
                          {runs.length, maps.batch_stride, Runs::run_stride(maps)}) &&
          ...);
}

}  // namespace efficientad::cuda
