// One emulated thread block: its threads, how they wait for each other, and its shared memory.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cuda/launch_shape.h"
#include "emulation/fault.h"
#include "emulation/fiber.h"
#include "emulation/shared_memory.h"

namespace efficientad::emulation {

using Random = std::mt19937_64;

// What a paused thread waits for. The scheduler asks each round; a block in which nothing is over
// and nothing can run is deadlocked. Asynchronous units (copies, tensor cores, memory barriers) can
// be added as further kinds of waiting.
class Wait {
 public:
  virtual ~Wait() = default;
  virtual bool over() const = 0;
  virtual std::string what() const = 0;
};

// The lanes of a warp exchange one value of up to 8 bytes each.
using LaneValues = std::array<std::uint64_t, cuda::kWarpSize>;

class Block {
 public:
  explicit Block(const cuda::LaunchShape& shape);
  ~Block();

  // Runs every thread of the block to its end, in an order drawn from `random`. Throws Fault.
  void run(const cuda::Extent& index, const std::function<void()>& kernel, Random& random);

  // The block whose thread is running now.
  static Block& current();

  // Called by the running thread.
  std::uint32_t thread() const { return running_; }
  const cuda::Extent& index() const { return index_; }
  const cuda::LaunchShape& shape() const { return shape_; }
  SharedMemory& shared_memory() { return shared_memory_; }
  Moment now() const;
  void barrier(Site site);
  void warp_barrier(Site site);
  LaneValues exchange(std::uint64_t value, Site site);
  void wait_until_over(const Wait& wait);

 private:
  struct Thread;
  struct Warp;
  class Barrier;
  class Meeting;

  void run_threads(Random& random);
  bool run_round(std::vector<std::uint32_t>& group, Random& random);
  void run_thread(const std::function<void()>& kernel);
  void resume(std::uint32_t thread);
  void cancel();
  LaneValues meet(std::uint64_t value, Site site, bool orders_memory);
  std::string place() const;

  cuda::LaunchShape shape_;
  cuda::Extent index_;
  SharedMemory shared_memory_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::uint32_t running_ = 0;
  std::uint32_t at_barrier_ = 0;
  std::uint64_t epoch_ = 1;
  Site barrier_site_{"", 0};
  bool cancelled_ = false;
  std::string fault_;
};

}  // namespace efficientad::emulation
