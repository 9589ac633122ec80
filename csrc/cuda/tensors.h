// Feature maps as kernels see them, and the arithmetic of launches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "cuda/device.h"
#include "efficientad/feature_maps.h"

namespace efficientad::cuda {

// The bytes of one vector access.
inline constexpr int kVectorBytes = 16;
template <class T>
inline constexpr int kVectorWidth = kVectorBytes / static_cast<int>(sizeof(T));

inline std::int64_t ceiling_divide(std::int64_t dividend, std::int64_t divisor) {
  return (dividend + divisor - 1) / divisor;
}

// A one-dimensional grid over `tiles` > 0 tiles, of at most `maximum` blocks.
inline Extent grid_over(std::int64_t tiles, std::int64_t maximum = kMaximumBlocks) {
  const std::int64_t blocks = std::min({tiles, maximum, kMaximumBlocks});
  return {static_cast<std::uint32_t>(blocks), 1, 1};
}

EFFICIENTAD_DEVICE std::int64_t lesser(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// FeatureMaps for device code: the strides of images, channels, rows and pixels of a row. In
// feature maps rows follow each other without a gap: their p-th pixel, row by row, is at pixel * p.
// Images may have any strides.
template <class T>
struct Maps {
  Global<T> data;
  std::int64_t image, channel, row, pixel;

  explicit Maps(const FeatureMaps& maps)
      : data(static_cast<T*>(maps.data), reach(maps)),
        image(maps.batch_stride),
        channel(maps.channel_stride),
        row(maps.row_stride),
        pixel(maps.column_stride) {}

  static std::int64_t reach(const FeatureMaps& maps) {
    if (maps.elements() == 0) return 0;
    return (maps.batch - 1) * maps.batch_stride + (maps.channels - 1) * maps.channel_stride +
           (maps.height - 1) * maps.row_stride + (maps.width - 1) * maps.column_stride + 1;
  }
};

// Whether vector accesses are aligned at every multiple of all `strides` from `address`.
inline bool is_vectorizable(const void* address, std::size_t element_bytes,
                            std::initializer_list<std::int64_t> strides) {
  bool aligned = reinterpret_cast<std::uintptr_t>(address) % kVectorBytes == 0;
  for (const std::int64_t stride : strides) {
    aligned = aligned && stride * static_cast<std::int64_t>(element_bytes) % kVectorBytes == 0;
  }
  return aligned;
}

}  // namespace efficientad::cuda
