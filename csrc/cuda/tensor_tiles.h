// What a tensor copy moves: boxes out of a strided tensor in global memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "efficientad/execution.h"
#include "efficientad/scalar.h"

namespace efficientad::cuda {

inline constexpr int kMaximumRank = 5;

// A box's first dimension, which makes one row of shared memory.
inline constexpr std::size_t kTileRowBytes = 128;
inline constexpr std::size_t kTileAlignment = 1024;

// Dimensions are given innermost first; strides count elements, the first is 1.
struct TensorTiles {
  ScalarType type;
  const void* data;
  int rank;
  std::int64_t extent[kMaximumRank];
  std::int64_t stride[kMaximumRank];
  int box[kMaximumRank];
};

// Where a box begins, innermost dimension first; the box may lie partly or all outside.
struct Coordinates {
  int values[kMaximumRank];
};

constexpr std::size_t element_bytes(ScalarType type) {
  switch (type) {
    case ScalarType::float64:
      return 8;
    case ScalarType::float32:
      return 4;
    case ScalarType::float16:
    case ScalarType::bfloat16:
    case ScalarType::uint16:
      return 2;
    case ScalarType::uint8:
      return 1;
  }
  return 0;
}

// The rules of compute capability 9.0 for copies with the 128-byte swizzle.
inline Status check(const TensorTiles& tiles) {
  const auto bytes = static_cast<std::int64_t>(element_bytes(tiles.type));
  if (tiles.rank < 2 || tiles.rank > kMaximumRank) return "a tensor map has 2 to 5 dimensions";
  if (tiles.data == nullptr || reinterpret_cast<std::uintptr_t>(tiles.data) % 16 != 0) {
    return "a tensor map's data must begin at a multiple of 16 bytes";
  }
  if (tiles.stride[0] != 1) return "a tensor map's innermost dimension must have stride 1";
  if (tiles.box[0] * bytes != static_cast<std::int64_t>(kTileRowBytes)) {
    return "a tensor map's box must be 128 bytes wide";
  }
  for (int dimension = 0; dimension < tiles.rank; ++dimension) {
    if (tiles.extent[dimension] < 1 || tiles.extent[dimension] > std::int64_t{1} << 32) {
      return "a tensor map's dimensions must have 1 to 2^32 elements";
    }
    if (tiles.box[dimension] < 1 || tiles.box[dimension] > 256) {
      return "a tensor map's box must have 1 to 256 elements in every dimension";
    }
    if (dimension == 0) continue;
    const std::int64_t stride = tiles.stride[dimension];
    if (stride < 0 || stride >= (std::int64_t{1} << 40) / bytes || stride * bytes % 16 != 0) {
      return "a tensor map's strides must be multiples of 16 bytes below 2^40 bytes";
    }
  }
  return kOk;
}

}  // namespace efficientad::cuda
