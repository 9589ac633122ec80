// The memory barriers of an emulated block that count arrivals and bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "emulation/block_parts.h"
#include "emulation/fault.h"

namespace efficientad::emulation {

class TransactionBarriers {
 public:
  explicit TransactionBarriers(BlockParts& parts) : parts_(parts) {}

  void start_block() { barriers_.clear(); }

  // For the running thread; `place` is that of the barrier's 8 bytes in shared memory.
  void init(std::size_t place, int arrivals, Site site);
  void fence_inits();
  void arrive(std::size_t place, std::int64_t expected_bytes, Site site);
  void wait(std::size_t place, int parity, Site site);

  // A copy that completes on a barrier: the actor that it is, and that its bytes have landed.
  Actor start_copy(std::size_t place, Site site);
  void land_copy(std::size_t place, std::int64_t bytes);

 private:
  struct Barrier {
    int slot;
    std::uint32_t initialiser;
    bool fenced;   // the initialisation is visible to copies
    int arrivals;  // of every phase
    int missing_arrivals;
    std::int64_t missing_bytes = 0;  // negative if they land before they are expected
    std::uint64_t phase = 0;
    Clock arriving;  // what was published in this phase, and in the one before
    Clock completed;
    std::vector<std::uint32_t> waiting;  // threads
  };
  class Phase;

  Barrier& used(std::size_t place, Site site);
  void add_bytes(Barrier& barrier, std::int64_t bytes);
  void finish_phase(Barrier& barrier);

  BlockParts& parts_;
  std::map<std::size_t, Barrier> barriers_;
};

}  // namespace efficientad::emulation
