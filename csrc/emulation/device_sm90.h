// The device primitives of cuda/device_sm90.h on the emulated GPU.
#pragma once

#include "cuda/tensor_tiles.h"
#include "emulation/device.h"

namespace efficientad::cuda {

using TransactionBarriers = SharedArray<std::uint64_t>;

struct TensorMap {
  TensorTiles tiles;
};

inline Status make_tensor_map(TensorMap& map, const TensorTiles& tiles) {
  const Status status = check(tiles);
  if (status == kOk) map = {tiles};
  return status;
}

// The running thread's block, if the GPU has these primitives.
inline emulation::Block& block_sm90(Site site) {
  if (emulation::device_properties().compute_capability < 90) {
    throw emulation::Fault("the GPU's compute capability is less than 9.0, which is needed at " +
                           site.text());
  }
  return emulation::Block::current();
}

inline std::size_t barrier_place(const TransactionBarriers& barriers, std::int64_t index,
                                 Site site) {
  return barriers.offset(index, 1, sizeof(std::uint64_t), site);
}

inline void transaction_init(const TransactionBarriers& barriers, std::int64_t index, int arrivals,
                             Site site = Site::here()) {
  block_sm90(site).transaction_barriers().init(barrier_place(barriers, index, site), arrivals,
                                               site);
}

inline void transaction_init_fence(Site site = Site::here()) {
  block_sm90(site).transaction_barriers().fence_inits();
}

inline void transaction_arrive_expect(const TransactionBarriers& barriers, std::int64_t index,
                                      int bytes, Site site = Site::here()) {
  block_sm90(site).transaction_barriers().arrive(barrier_place(barriers, index, site), bytes, site);
}

inline void transaction_arrive(const TransactionBarriers& barriers, std::int64_t index,
                               Site site = Site::here()) {
  transaction_arrive_expect(barriers, index, 0, site);
}

inline void transaction_wait(const TransactionBarriers& barriers, std::int64_t index, int parity,
                             Site site = Site::here()) {
  block_sm90(site).transaction_barriers().wait(barrier_place(barriers, index, site), parity, site);
}

template <int Rank, class T>
void load_tile(const SharedArray<T>& to, std::int64_t index, const TensorMap& map,
               const Coordinates& coordinates, const TransactionBarriers& barriers,
               std::int64_t barrier, Site site = Site::here()) {
  static_assert(Rank >= 2 && Rank <= kMaximumRank);
  const TensorTiles& tiles = map.tiles;
  if (tiles.rank != Rank || element_bytes(tiles.type) != sizeof(T)) {
    throw emulation::Fault("a tensor map of another rank or type is used at " + site.text());
  }
  std::int64_t elements = 1;
  for (int dimension = 0; dimension < Rank; ++dimension) elements *= tiles.box[dimension];
  block_sm90(site).tensor_copies().issue(to.offset(index, elements, kTileAlignment, site), tiles,
                                         coordinates, barrier_place(barriers, barrier, site), site);
}

inline void warpgroup_fence(Site site = Site::here()) {
  block_sm90(site).warpgroup(site).fence(site);
}

inline void warpgroup_commit(Site site = Site::here()) {
  block_sm90(site).warpgroup(site).commit(site);
}

template <int Pending>
void warpgroup_wait(Site site = Site::here()) {
  block_sm90(site).warpgroup(site).wait(Pending, site);
}

inline void warpgroup_fence_sums(float (&sum)[64], Site site = Site::here()) {
  block_sm90(site).warpgroup(site).fence_sums(sum);
}

// The place of the 32 bytes at `index`, where the first of `rows` rows begins.
template <class T>
std::size_t operand_place(const SharedArray<T>& array, std::int64_t index, int rows, Site site) {
  constexpr std::size_t kSegmentBytes = 32;
  const std::size_t place = array.offset(index, 1, kSegmentBytes, site);
  const auto column = static_cast<std::int64_t>(place % kTileRowBytes / sizeof(T));
  array.offset(index - column, rows * static_cast<std::int64_t>(kTileRowBytes / sizeof(T)),
               kTileAlignment, site);
  return place;
}

template <class T>
void warpgroup_multiply_add(float (&sum)[64], const SharedArray<T>& a, std::int64_t a_index,
                            const SharedArray<T>& b, std::int64_t b_index,
                            Site site = Site::here()) {
  using emulation::Warpgroup;
  block_sm90(site).warpgroup(site).multiply_add(
      sum,
      {emulation::matrix_type(T{}), operand_place(a, a_index, Warpgroup::kRows, site),
       operand_place(b, b_index, Warpgroup::kColumns, site)},
      site);
}

}  // namespace efficientad::cuda
