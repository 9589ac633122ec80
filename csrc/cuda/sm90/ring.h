// A ring of buffers in shared memory between one producer thread and several consumer warps.
#pragma once

#include <cstdint>

#include "cuda/device_sm90.h"

namespace efficientad::cuda::sm90 {

// Two barriers for each slot: `full` flips when the bytes that the producer announced have arrived,
// `empty` when every consumer warp has arrived.
class RingBarriers {
 public:
  EFFICIENTAD_DEVICE RingBarriers(SharedMemory& memory, int slots)
      : full_(memory.array<std::uint64_t>(static_cast<std::size_t>(slots))),
        empty_(memory.array<std::uint64_t>(static_cast<std::size_t>(slots))) {}

  static std::size_t bytes(int slots) {
    return 2 * shared_bytes<std::uint64_t>(static_cast<std::size_t>(slots));
  }

  EFFICIENTAD_DEVICE void initialize(int slots, int consumer_warps) const {
#pragma unroll 1
    for (int slot = 0; slot < slots; ++slot) {
      transaction_init(full_, slot, 1);
      transaction_init(empty_, slot, consumer_warps);
    }
  }

  EFFICIENTAD_DEVICE const SharedArray<std::uint64_t>& full() const { return full_; }
  EFFICIENTAD_DEVICE const SharedArray<std::uint64_t>& empty() const { return empty_; }

 private:
  SharedArray<std::uint64_t> full_, empty_;
};

// A position in a ring: the phase flips with every round.
class RingPosition {
 public:
  EFFICIENTAD_DEVICE explicit RingPosition(int slots) : slots_(slots) {}

  EFFICIENTAD_DEVICE int slot() const { return slot_; }

  EFFICIENTAD_DEVICE void advance() {
    if (++slot_ == slots_) {
      slot_ = 0;
      phase_ ^= 1;
    }
  }

  // The producer waits until the consumers of the round before are done (the first round has none)
  // and announces what it is about to copy.
  EFFICIENTAD_DEVICE void acquire_empty(const RingBarriers& ring, int bytes) const {
    transaction_wait(ring.empty(), slot_, phase_ ^ 1);
    transaction_arrive_expect(ring.full(), slot_, bytes);
  }

  EFFICIENTAD_DEVICE void wait_full(const RingBarriers& ring) const {
    transaction_wait(ring.full(), slot_, phase_);
  }

  // Called by every consumer warp when it has read the slot.
  EFFICIENTAD_DEVICE void release(const RingBarriers& ring) const {
    if (thread_index() % kWarpSize == 0) transaction_arrive(ring.empty(), slot_);
  }

 private:
  int slots_;
  int slot_ = 0;
  unsigned phase_ = 0;
};

}  // namespace efficientad::cuda::sm90
