#include "emulation/scheduler.h"

#include <exception>
#include <memory>

#include "cuda/launch_shape.h"

namespace efficientad::emulation {
namespace {

// Fibers stay from launch to launch: fresh stacks cost more than a small kernel.
Fiber* fiber_of(std::uint32_t thread) {
  thread_local std::vector<std::unique_ptr<Fiber>> fibers;
  while (fibers.size() <= thread) fibers.push_back(std::make_unique<Fiber>());
  return fibers[thread].get();
}

// Unwinds the stack of a thread whose block has failed elsewhere.
struct Cancelled {};

}  // namespace

Scheduler::Scheduler(std::uint32_t threads)
    : threads_(threads), ready_lanes_(threads / cuda::kWarpSize) {}

// Half of the time all warps advance together, from one wait to the next; otherwise warp by warp,
// each as far as it can get while the others stand still.
void Scheduler::run(const std::function<void()>& body, const std::function<bool(Random&)>& advance,
                    Random& random) {
  body_ = &body;
  cancelled_ = false;
  fault_.clear();
  unended_ = static_cast<std::uint32_t>(threads_.size());
  for (std::uint32_t thread = 0; thread < threads_.size(); ++thread) {
    threads_[thread] = {fiber_of(thread), nullptr};
    threads_[thread].fiber->prepare(enter, this);
    wake(thread);
  }
  const bool together = random() % 2 == 0;
  while (unended_ > 0 && fault_.empty()) {
    if (ready_warps_ == 0) {
      if (!advance_units(advance, random)) find_deadlock();
      continue;
    }
    if (random() % 8 == 0) advance_units(advance, random);
    const std::uint32_t warp = choose_warp(random);
    do {
      run_warp(warp, random);
    } while (!together && ready_lanes_[warp] != 0 && fault_.empty());
  }
  cancel();
  if (!fault_.empty()) throw Fault(fault_);
}

// A fault found by a unit is nobody's but the block's.
bool Scheduler::advance_units(const std::function<bool(Random&)>& advance, Random& random) {
  try {
    return advance(random);
  } catch (const std::exception& error) {
    fault_ = error.what();
    return true;
  }
}

std::uint32_t Scheduler::choose_warp(Random& random) const {
  const auto start = static_cast<std::uint32_t>(random() % cuda::kWarpSize);
  const std::uint64_t twice = std::uint64_t{ready_warps_} << 32 | ready_warps_;
  return static_cast<std::uint32_t>(start + __builtin_ctzll(twice >> start)) % cuda::kWarpSize;
}

// Gives every lane that is ready one turn, in one of 512 orders.
void Scheduler::run_warp(std::uint32_t warp, Random& random) {
  const std::uint32_t lanes = ready_lanes_[warp];
  ready_lanes_[warp] = 0;
  ready_warps_ &= ~(1u << warp);
  const std::uint64_t drawn = random();
  const auto start = static_cast<std::uint32_t>(drawn),
             step = static_cast<std::uint32_t>(drawn >> 32) | 1;
  for (std::uint32_t turn = 0; turn < cuda::kWarpSize; ++turn) {
    const std::uint32_t lane = (start + turn * step) % cuda::kWarpSize;
    if ((lanes >> lane & 1) == 0) continue;
    resume(warp * cuda::kWarpSize + lane);
    if (!fault_.empty()) return;
  }
}

void Scheduler::enter(void* scheduler) { static_cast<Scheduler*>(scheduler)->run_thread(); }

void Scheduler::run_thread() {
  try {
    if (!cancelled_) (*body_)();
  } catch (const Cancelled&) {
  } catch (const std::exception& error) {
    if (fault_.empty()) fault_ = "thread " + std::to_string(running_) + ": " + error.what();
  }
  --unended_;
}

void Scheduler::resume(std::uint32_t thread) {
  running_ = thread;
  threads_[thread].fiber->resume();
}

void Scheduler::wait(const Wait& reason) {
  Thread& thread = threads_[running_];
  thread.reason = &reason;
  thread.fiber->pause();
  thread.reason = nullptr;
  if (cancelled_) throw Cancelled{};
}

void Scheduler::wake(std::uint32_t thread) {
  wake_lanes(thread / cuda::kWarpSize, 1u << thread % cuda::kWarpSize);
}

void Scheduler::wake_lanes(std::uint32_t warp, std::uint32_t lanes) {
  ready_lanes_[warp] |= lanes;
  ready_warps_ |= 1u << warp;
}

void Scheduler::find_deadlock() {
  std::uint32_t thread = 0;
  while (threads_[thread].fiber->ended()) ++thread;
  fault_ =
      "thread " + std::to_string(thread) + ": waits forever for " + threads_[thread].reason->what();
}

// Lets every thread that is still alive unwind its stack.
void Scheduler::cancel() {
  cancelled_ = true;
  for (std::uint32_t thread = 0; thread < threads_.size(); ++thread) {
    if (!threads_[thread].fiber->ended()) resume(thread);
  }
  ready_warps_ = 0;
  ready_lanes_.assign(ready_lanes_.size(), 0);
}

}  // namespace efficientad::emulation
