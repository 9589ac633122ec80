#include "emulation/fiber.h"

#include <cstdint>
#include <stdexcept>
#include <utility>

namespace efficientad::emulation {

void Fiber::prepare(std::function<void()> body, char* stack) {
  body_ = std::move(body);
  if (getcontext(&own_) != 0) throw std::runtime_error("getcontext failed");
  own_.uc_stack.ss_sp = stack;
  own_.uc_stack.ss_size = kStackBytes;
  own_.uc_link = &scheduler_;
  ended_ = false;
  // makecontext passes int arguments only.
  const auto address = reinterpret_cast<std::uintptr_t>(this);
  makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::enter), 2,
              static_cast<unsigned>(std::uint64_t{address} >> 32), static_cast<unsigned>(address));
}

void Fiber::enter(unsigned high, unsigned low) {
  Fiber* fiber = reinterpret_cast<Fiber*>(
      static_cast<std::uintptr_t>(static_cast<std::uint64_t>(high) << 32 | low));
  fiber->body_();
  fiber->ended_ = true;
}

void Fiber::resume() { swapcontext(&scheduler_, &own_); }

void Fiber::pause() { swapcontext(&own_, &scheduler_); }

}  // namespace efficientad::emulation
