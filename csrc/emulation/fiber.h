// A thread of execution that runs until it chooses to pause: one emulated GPU thread.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace efficientad::emulation {

// Not copyable or movable: its context refers to its own address.
class Fiber {
 public:
  static constexpr std::size_t kStackBytes = 128 * 1024;

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Prepares to run `body`, which must not let an exception out, on a stack of kStackBytes.
  void prepare(std::function<void()> body, char* stack);

  // Called by the scheduler: runs the body until it pauses or ends.
  void resume();

  // Called by the body: back to the scheduler.
  void pause();

  bool ended() const { return ended_; }

 private:
  static void enter(unsigned high, unsigned low);

  std::function<void()> body_;
  ucontext_t own_;
  ucontext_t scheduler_;
  bool ended_ = true;
};

}  // namespace efficientad::emulation
