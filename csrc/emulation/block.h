// One emulated thread block: its threads, how they meet, and its shared memory.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "cuda/launch_shape.h"
#include "emulation/asynchronous_copies.h"
#include "emulation/block_parts.h"
#include "emulation/fault.h"
#include "emulation/random.h"
#include "emulation/tensor_copies.h"
#include "emulation/transaction_barriers.h"
#include "emulation/warpgroup.h"

namespace efficientad::emulation {

class Block;

// A warp operation is carried out for all lanes by the last that arrives; each lane brings what it
// gives and takes.
using LaneOperands = std::array<void*, cuda::kWarpSize>;
using WarpOperation = void (*)(Block& block, const LaneOperands& operands);

class Block {
 public:
  explicit Block(const cuda::LaunchShape& shape);

  // Runs every thread of the block to its end, in an order drawn from `random`. Throws Fault.
  void run(const cuda::Extent& index, const std::function<void()>& kernel, Random& random);

  // The block whose thread is running now. The rest is for that thread.
  static Block& current() { return *current_; }

  std::uint32_t thread() const { return parts_.scheduler.running(); }
  std::uint32_t warp() const { return thread() / cuda::kWarpSize; }
  const cuda::Extent& index() const { return index_; }
  const cuda::LaunchShape& shape() const { return shape_; }
  SharedMemory& memory() { return parts_.memory; }

  void barrier(Site site);
  void warp_barrier(Site site);
  std::uint64_t shuffle(std::uint64_t value, int source, Site site);
  void meet(WarpOperation operation, void* operands, Site site);

  // An access to shared memory by the thread, or by a lane of its warp.
  void record(AccessKind kind, std::size_t offset, std::size_t bytes, Site site);
  void record_lane(AccessKind kind, int lane, std::size_t offset, std::size_t bytes, SiteName site);

  // `from` is nullptr for zeros.
  void copy_async(std::size_t to, const void* from, Site site);
  void copy_async_commit() { copies_[thread()].commit(); }
  void copy_async_wait(std::uint64_t pending);

  TransactionBarriers& transaction_barriers() { return barriers_; }
  TensorCopies& tensor_copies() { return tensor_copies_; }
  Warpgroup& warpgroup(Site site);

 private:
  // A warp has at most one operation in progress, since all lanes take part.
  struct Warp {
    LaneOperands operands{};
    WarpOperation operation = nullptr;
    int arrived = 0;
    Site site{"", 0};
  };

  void check_ended() const;
  void move(const AsynchronousCopy& copy);

  static thread_local Block* current_;

  cuda::LaunchShape shape_;
  cuda::Extent index_;
  BlockParts parts_;
  std::vector<Warp> warps_;
  std::vector<AsynchronousCopies> copies_;  // of each thread
  TransactionBarriers barriers_;
  TensorCopies tensor_copies_;
  std::deque<Warpgroup> warpgroups_;
  std::uint32_t at_barrier_ = 0;
  Site barrier_site_{"", 0};
  Random* random_ = nullptr;
};

}  // namespace efficientad::emulation
