// Runs the threads of an emulated block by turns, in an order drawn at random.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "emulation/fault.h"
#include "emulation/fiber.h"
#include "emulation/random.h"

namespace efficientad::emulation {

// What a paused thread waits for. Whoever completes it wakes the thread; a block in which nobody
// can run any more is deadlocked.
class Wait {
 public:
  virtual ~Wait() = default;
  virtual std::string what() const = 0;
};

class WaitAt : public Wait {
 public:
  WaitAt(const char* what, Site site) : what_(what), site_(site) {}
  std::string what() const override { return what_ + (" at " + site_.text()); }

 private:
  const char* what_;
  Site site_;
};

class Scheduler {
 public:
  explicit Scheduler(std::uint32_t threads);

  // Runs `body` in every thread to its end. Between turns, and when nobody can run, `advance` lets
  // one of the units that work beside the threads do something; false if none had anything to do.
  // Throws Fault for what a thread throws and for a deadlock.
  void run(const std::function<void()>& body, const std::function<bool(Random&)>& advance,
           Random& random);

  // For the running thread: which it is, and a pause until somebody wakes it.
  std::uint32_t running() const { return running_; }
  void wait(const Wait& reason);

  void wake(std::uint32_t thread);
  void wake_lanes(std::uint32_t warp, std::uint32_t lanes);

 private:
  struct Thread {
    Fiber* fiber = nullptr;
    const Wait* reason = nullptr;
  };

  static void enter(void* scheduler);
  bool advance_units(const std::function<bool(Random&)>& advance, Random& random);
  void run_thread();
  void run_warp(std::uint32_t warp, Random& random);
  std::uint32_t choose_warp(Random& random) const;
  void find_deadlock();
  void resume(std::uint32_t thread);
  void cancel();

  std::vector<Thread> threads_;
  std::vector<std::uint32_t> ready_lanes_;  // of each warp, one bit per lane
  std::uint32_t ready_warps_ = 0;           // which of them have any
  std::uint32_t running_ = 0;
  std::uint32_t unended_ = 0;
  const std::function<void()>* body_ = nullptr;
  bool cancelled_ = false;
  std::string fault_;
};

}  // namespace efficientad::emulation
