// glibc's checked longjmp refuses to jump from stack to stack.
#undef _FORTIFY_SOURCE

#include "emulation/fiber.h"

#include <atomic>
#include <cstdint>
#include <stdexcept>

namespace efficientad::emulation {

void Fiber::prepare(Body body, void* argument) {
  body_ = body;
  argument_ = argument;
  ended_ = false;
}

void Fiber::create() {
  // Stacks that end at the same place of a page would drive each other out of the cache.
  static std::atomic<std::size_t> stacks{0};
  const std::size_t shift = stacks++ % 32 * 1088;
  stack_.reset(new char[kStackBytes]);
  if (getcontext(&context_) != 0) throw std::runtime_error("getcontext failed");
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackBytes - shift;
  context_.uc_link = nullptr;
  // makecontext passes int arguments only.
  const std::uint64_t address = reinterpret_cast<std::uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
              static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
}

void Fiber::enter(unsigned high, unsigned low) {
  Fiber* const fiber = reinterpret_cast<Fiber*>(
      static_cast<std::uintptr_t>(static_cast<std::uint64_t>(high) << 32 | low));
  for (;;) {
    fiber->body_(fiber->argument_);
    fiber->ended_ = true;
    fiber->pause();
  }
}

// Unlike swapcontext, _setjmp and _longjmp leave the signal mask alone, which takes a system call.
void Fiber::resume() {
  const bool first = stack_ == nullptr;
  if (first) create();
  if (_setjmp(scheduler_) != 0) return;
  if (first) setcontext(&context_);
  _longjmp(own_, 1);
}

void Fiber::pause() {
  if (_setjmp(own_) == 0) _longjmp(scheduler_, 1);
}

}  // namespace efficientad::emulation
