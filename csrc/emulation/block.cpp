#include "emulation/block.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

namespace efficientad::emulation {
namespace {

thread_local Block* current_block = nullptr;

// Stacks stay allocated from launch to launch: fresh pages cost more than a small kernel.
char* stack_of(std::uint32_t thread) {
  thread_local std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() <= thread) stacks.emplace_back(new char[Fiber::kStackBytes]);
  return stacks[thread].get();
}

// Unwinds the stack of a thread whose block has failed elsewhere.
struct Cancelled {};

}  // namespace

struct Block::Thread {
  Fiber fiber;
  const Wait* wait = nullptr;
};

// A warp has at most one exchange or warp barrier in progress, since all lanes take part.
struct Block::Warp {
  std::array<Meeting*, cuda::kWarpSize> lanes{};
  int arrived = 0;
  Site site{"", 0};
  std::uint64_t epoch = 1;
};

class Block::Barrier : public Wait {
 public:
  Barrier(const Block& block, Site site) : block_(block), epoch_(block.epoch_), site_(site) {}
  bool over() const override { return block_.epoch_ != epoch_; }
  std::string what() const override { return "the barrier at " + site_.text(); }

 private:
  const Block& block_;
  std::uint64_t epoch_;
  Site site_;
};

class Block::Meeting : public Wait {
 public:
  Meeting(Site site, std::uint64_t own_value) : site(site), own(own_value) {}
  bool over() const override { return complete; }
  std::string what() const override { return "the warp operation at " + site.text(); }

  Site site;
  std::uint64_t own;
  LaneValues values{};
  bool complete = false;
};

Block::Block(const cuda::LaunchShape& shape)
    : shape_(shape),
      shared_memory_(shape.shared_bytes),
      threads_(shape.threads),
      warps_(shape.threads / cuda::kWarpSize) {}

Block::~Block() = default;

Block& Block::current() { return *current_block; }

void Block::run(const cuda::Extent& index, const std::function<void()>& kernel, Random& random) {
  index_ = index;
  at_barrier_ = 0;
  ++epoch_;
  std::fill(warps_.begin(), warps_.end(), Warp{});
  cancelled_ = false;
  fault_.clear();
  shared_memory_.poison(epoch_);
  for (std::uint32_t thread = 0; thread < shape_.threads; ++thread) {
    threads_[thread].wait = nullptr;
    threads_[thread].fiber.prepare([this, &kernel] { run_thread(kernel); }, stack_of(thread));
  }
  Block* const outer = std::exchange(current_block, this);
  run_threads(random);
  cancel();
  current_block = outer;
  if (!fault_.empty()) throw Fault(fault_);
}

// Half of the time all threads advance together, from one wait to the next; otherwise warp by warp,
// each as far as it can get while the others stand still. Both in a new order each time.
void Block::run_threads(Random& random) {
  const std::uint32_t size = random() % 2 == 0 ? shape_.threads : cuda::kWarpSize;
  std::vector<std::vector<std::uint32_t>> groups(shape_.threads / size);
  for (std::uint32_t thread = 0; thread < shape_.threads; ++thread) {
    groups[thread / size].push_back(thread);
  }
  bool progress = true;
  while (progress) {
    progress = false;
    std::shuffle(groups.begin(), groups.end(), random);
    for (std::vector<std::uint32_t>& group : groups) {
      while (run_round(group, random)) progress = true;
    }
  }
  for (running_ = 0; running_ < shape_.threads && fault_.empty(); ++running_) {
    const Thread& thread = threads_[running_];
    if (!thread.fiber.ended()) fault_ = place() + "waits forever for " + thread.wait->what();
  }
}

// Resumes every thread of a group that has nothing to wait for. False if there was none, or a
// fault.
bool Block::run_round(std::vector<std::uint32_t>& group, Random& random) {
  bool progress = false;
  std::shuffle(group.begin(), group.end(), random);
  for (const std::uint32_t index : group) {
    const Thread& thread = threads_[index];
    if (thread.fiber.ended() || (thread.wait != nullptr && !thread.wait->over())) continue;
    progress = true;
    resume(index);
    if (!fault_.empty()) return false;
  }
  return progress;
}

void Block::run_thread(const std::function<void()>& kernel) {
  try {
    if (!cancelled_) kernel();
  } catch (const Cancelled&) {
    return;
  } catch (const std::exception& error) {
    if (fault_.empty()) fault_ = place() + error.what();
  }
}

void Block::resume(std::uint32_t thread) {
  running_ = thread;
  threads_[thread].fiber.resume();
}

// Lets every thread that is still alive unwind its stack.
void Block::cancel() {
  cancelled_ = true;
  for (std::uint32_t thread = 0; thread < shape_.threads; ++thread) {
    if (!threads_[thread].fiber.ended()) resume(thread);
  }
}

std::string Block::place() const {
  return "block (" + std::to_string(index_.x) + ", " + std::to_string(index_.y) + ", " +
         std::to_string(index_.z) + "), thread " + std::to_string(running_) + ": ";
}

void Block::wait_until_over(const Wait& wait) {
  Thread& thread = threads_[running_];
  thread.wait = &wait;
  thread.fiber.pause();
  thread.wait = nullptr;
  if (cancelled_) throw Cancelled{};
}

Moment Block::now() const {
  const std::uint32_t warp = running_ / cuda::kWarpSize;
  return {static_cast<std::int32_t>(running_), static_cast<std::int32_t>(warp), epoch_,
          warps_[warp].epoch};
}

void Block::barrier(Site site) {
  if (at_barrier_ > 0 && site != barrier_site_) {
    throw Fault("divergent barrier: reached at " + site.text() + " while other threads wait at " +
                barrier_site_.text());
  }
  barrier_site_ = site;
  if (++at_barrier_ == shape_.threads) {
    at_barrier_ = 0;
    ++epoch_;
  } else {
    wait_until_over(Barrier(*this, site));
  }
}

LaneValues Block::meet(std::uint64_t value, Site site, bool orders_memory) {
  Warp& warp = warps_[running_ / cuda::kWarpSize];
  if (warp.arrived > 0 && site != warp.site) {
    throw Fault("divergent warp operation: reached at " + site.text() +
                " while other lanes wait at " + warp.site.text());
  }
  Meeting meeting(site, value);
  warp.site = site;
  warp.lanes[running_ % cuda::kWarpSize] = &meeting;
  if (++warp.arrived < cuda::kWarpSize) {
    wait_until_over(meeting);
    return meeting.values;
  }
  LaneValues values;
  for (int lane = 0; lane < cuda::kWarpSize; ++lane) values[lane] = warp.lanes[lane]->own;
  for (Meeting* other : warp.lanes) {
    other->values = values;
    other->complete = true;
  }
  warp.arrived = 0;
  if (orders_memory) ++warp.epoch;
  return values;
}

void Block::warp_barrier(Site site) { meet(0, site, true); }

LaneValues Block::exchange(std::uint64_t value, Site site) { return meet(value, site, false); }

}  // namespace efficientad::emulation
