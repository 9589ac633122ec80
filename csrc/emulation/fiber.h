// A thread of execution that runs until it chooses to pause: one emulated GPU thread.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <memory>

namespace efficientad::emulation {

// Runs one body after the other on a stack of its own, so that only the first costs system calls.
// A fiber may be destroyed between bodies only. Not copyable or movable: its context refers to its
// own address.
class Fiber {
 public:
  using Body = void (*)(void* argument);

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Lets the next resume() start `body`, which must not let an exception out.
  void prepare(Body body, void* argument);

  // Called by the scheduler: runs the body until it pauses or ends.
  void resume();

  // Called by the body: back to the scheduler.
  void pause();

  bool ended() const { return ended_; }

 private:
  static constexpr std::size_t kStackBytes = 128 * 1024;

  static void enter(unsigned high, unsigned low);
  void create();

  std::unique_ptr<char[]> stack_;
  ucontext_t context_;
  jmp_buf own_;
  jmp_buf scheduler_;
  Body body_ = nullptr;
  void* argument_ = nullptr;
  bool ended_ = true;
};

}  // namespace efficientad::emulation
