// The device primitives of device_sm90.h on a CUDA device.
#pragma once

#include "cuda/native_device.h"
#include "cuda/native_tensor_map.h"
#include "cuda/ptx/tensor_copy.h"
#include "cuda/ptx/transaction_barrier.h"
#include "cuda/ptx/warpgroup.h"

namespace efficientad::cuda {

using TransactionBarriers = SharedArray<std::uint64_t>;

EFFICIENTAD_DEVICE void transaction_init(const TransactionBarriers& barriers, std::int64_t index,
                                         int arrivals) {
  ptx::transaction_init(barriers.address(index), static_cast<std::uint32_t>(arrivals));
}

EFFICIENTAD_DEVICE void transaction_init_fence() { ptx::transaction_init_fence(); }

EFFICIENTAD_DEVICE void transaction_arrive(const TransactionBarriers& barriers,
                                           std::int64_t index) {
  ptx::transaction_arrive(barriers.address(index));
}

EFFICIENTAD_DEVICE void transaction_arrive_expect(const TransactionBarriers& barriers,
                                                  std::int64_t index, int bytes) {
  ptx::transaction_arrive_expect(barriers.address(index), static_cast<std::uint32_t>(bytes));
}

EFFICIENTAD_DEVICE void transaction_wait(const TransactionBarriers& barriers, std::int64_t index,
                                         int parity) {
  const std::uint32_t barrier = barriers.address(index);
  while (!ptx::transaction_try_wait(barrier, static_cast<std::uint32_t>(parity))) {
  }
}

template <int Rank, class T>
EFFICIENTAD_DEVICE void load_tile(const SharedArray<T>& to, std::int64_t index,
                                  const TensorMap& map, const Coordinates& coordinates,
                                  const TransactionBarriers& barriers, std::int64_t barrier) {
  ptx::load_tile<Rank>(to.address(index), &map, coordinates.values, barriers.address(barrier));
}

EFFICIENTAD_DEVICE void warpgroup_fence() { ptx::warpgroup_fence(); }
EFFICIENTAD_DEVICE void warpgroup_commit() { ptx::warpgroup_commit(); }

template <int Pending>
EFFICIENTAD_DEVICE void warpgroup_wait() {
  ptx::warpgroup_wait<Pending>();
}

EFFICIENTAD_DEVICE void warpgroup_fence_sums(float (&sum)[64]) { ptx::warpgroup_fence_sums(sum); }

template <class T>
EFFICIENTAD_DEVICE void warpgroup_multiply_add(float (&sum)[64], const SharedArray<T>& a,
                                               std::int64_t a_index, const SharedArray<T>& b,
                                               std::int64_t b_index) {
  ptx::warpgroup_multiply_add(sum, ptx::matrix_descriptor(a.address(a_index)),
                              ptx::matrix_descriptor(b.address(b_index)), T{});
}

}  // namespace efficientad::cuda
