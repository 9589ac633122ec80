// The tile registers of AMX: eight matrices of up to 16 rows of up to 64 bytes, and their products.
//
// EFFICIENTAD_TILES is 1 where bfloat16 can be multiplied, 2 where float16 can be, too. With
// EFFICIENTAD_EMULATED_TILES the instructions run as plain code, for tests on processors that lack
// them: what the hardware would refuse gives NaN.
#pragma once

#include <cstdint>
#include <cstring>

#include "efficientad/scalar.h"
#if !defined(EFFICIENTAD_EMULATED_TILES)
#include <immintrin.h>
#endif

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

inline constexpr int kTileRows = 16;
inline constexpr int kTileBytes = 64;  // of a row
inline constexpr int kTiles = 8;

// The shapes of all tiles, as the processor reads them.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes[16] = {};  // of a row
  std::uint8_t rows[16] = {};

  void set(int tile, std::int64_t row_count, std::int64_t row_bytes) {
    rows[tile] = static_cast<std::uint8_t>(row_count);
    bytes[tile] = static_cast<std::uint16_t>(row_bytes);
  }
};
static_assert(sizeof(TileShapes) == 64);

// --- Instructions ---
//
// configure_tiles(shapes)      all tiles take these shapes and are zero
// release_tiles()              the thread is done with its tiles
// load_tile<tile>(from, pitch), store_tile<tile>(to, pitch)
//                              row i lies at from + i * pitch bytes
// multiply_tiles<sum, a, b>(Scalar{})
//     sum[m][n] += the products of a[m][k] and b[k][n], k running over pairs: row m of `a` holds
//     numbers 0, 1, 2, ... of the reduction; row k of `b` holds for each n the numbers 2 k and
//     2 k + 1; sums are float.
// keep_vectors_awake()         to be called every half microsecond or so: without an instruction of
//     floating point for 0.7 us, a processor (Granite Rapids) lets the units for these sleep, and
//     takes 0.3 us at the next one, which for this purpose storing a tile is, and multiplying tiles
//     is not

#if defined(EFFICIENTAD_EMULATED_TILES)

struct Tile {
  std::int64_t rows = 0, bytes = 0;
  char data[kTileRows][kTileBytes];
};

inline Tile* emulated_tiles() {
  static thread_local Tile tiles[kTiles];
  return tiles;
}

inline void configure_tiles(const TileShapes& shapes) {
  for (int index = 0; index < kTiles; ++index) {
    Tile& tile = emulated_tiles()[index];
    const bool possible = shapes.palette == 1 && shapes.start_row == 0 &&
                          shapes.rows[index] <= kTileRows && shapes.bytes[index] <= kTileBytes &&
                          (shapes.rows[index] == 0) == (shapes.bytes[index] == 0);
    tile.rows = possible ? shapes.rows[index] : 0;
    tile.bytes = possible ? shapes.bytes[index] : 0;
    std::memset(tile.data, 0, sizeof(tile.data));
  }
}

inline void release_tiles() {
  for (int index = 0; index < kTiles; ++index) emulated_tiles()[index] = Tile{};
}

template <int tile>
inline void load_tile(const void* from, std::int64_t pitch) {
  Tile& to = emulated_tiles()[tile];
  for (std::int64_t row = 0; row < to.rows; ++row) {
    std::memcpy(to.data[row], static_cast<const char*>(from) + row * pitch,
                static_cast<std::size_t>(to.bytes));
  }
}

template <int tile>
inline void store_tile(void* to, std::int64_t pitch) {
  const Tile& from = emulated_tiles()[tile];
  for (std::int64_t row = 0; row < from.rows; ++row) {
    std::memcpy(static_cast<char*>(to) + row * pitch, from.data[row],
                static_cast<std::size_t>(from.bytes));
  }
}

inline float widened(BFloat16 value) { return bfloat16_to_float(value); }
inline float widened(Half value) { return half_to_float(value); }

template <int sum, int a, int b, class Scalar>
inline void multiply_tiles(Scalar) {
  Tile* tiles = emulated_tiles();
  const bool fitting = tiles[sum].rows > 0 && tiles[sum].rows == tiles[a].rows &&
                       tiles[sum].bytes == tiles[b].bytes && tiles[a].bytes > 0 &&
                       tiles[a].bytes == 4 * tiles[b].rows;
  for (std::int64_t m = 0; m < kTileRows; ++m) {
    for (std::int64_t n = 0; n < kTileBytes / 4; ++n) {
      float total;
      char* at = tiles[sum].data[m] + 4 * n;
      std::memcpy(&total, at, sizeof(total));
      if (!fitting) total = float_from_bits(0x7fc00000u);
      for (std::int64_t k = 0; fitting && k < tiles[b].rows; ++k) {
        Scalar inputs[2], weights[2];
        std::memcpy(inputs, tiles[a].data[m] + 4 * k, sizeof(inputs));
        std::memcpy(weights, tiles[b].data[k] + 4 * n, sizeof(weights));
        total += widened(inputs[0]) * widened(weights[0]);
        total += widened(inputs[1]) * widened(weights[1]);
      }
      std::memcpy(at, &total, sizeof(total));
    }
  }
}

inline void keep_vectors_awake() {}

#else

inline void configure_tiles(const TileShapes& shapes) {
  asm volatile("ldtilecfg %0" : : "m"(shapes));
}

inline void release_tiles() { asm volatile("tilerelease"); }

template <int tile>
inline void load_tile(const void* from, std::int64_t pitch) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(pitch), "i"(tile) : "memory");
}

template <int tile>
inline void store_tile(void* to, std::int64_t pitch) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(pitch), "i"(tile) : "memory");
}

// Volatile, so that they stay in order with the loads: the compiler does not know the registers.
template <int sum, int a, int b>
inline void multiply_tiles(BFloat16) {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
}

inline void keep_vectors_awake() {
  __m128 zero;
  asm volatile("vxorps %0, %0, %0\n\tvaddss %0, %0, %0" : "=x"(zero));
}

#if EFFICIENTAD_TILES >= 2
template <int sum, int a, int b>
inline void multiply_tiles(Half) {
  asm volatile("tdpfp16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
}
#endif

#endif

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
