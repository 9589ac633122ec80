// What each thread of a block knows to have happened before: vector clocks.
//
// A global time counts releases. An access is stamped with the time and with the actor that made
// it; it happens before what a thread does next if the thread's clock has reached the stamp's time
// at the actor's entry. A release publishes the releaser's clock, an acquire joins what was
// published. Times go on counting from block to block, so that nothing has to be cleared.
//
// Actors are the threads, and units that work beside them: for each slot of a memory barrier the
// copies that complete on it, and for each warp its tensor cores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace efficientad::emulation {

using Time = std::uint32_t;
using Actor = std::uint16_t;

// An access of this time is still going on, and ordered before nothing.
inline constexpr Time kPending = 0xffffffffu;

// One entry per actor.
using Clock = std::vector<Time>;

void join(Clock& clock, const Clock& other);  // the later of both, entry by entry
void meet(Clock& clock, const Time* other);   // the earlier of both

// What an actor knows. Of threads, everything up to `threads_known` happened before, too; of
// everybody, everything up to `all_known`, when the block began.
struct Knowledge {
  Actor actor;
  const Time* clock;
  std::size_t threads;
  Time threads_known;
  Time all_known;

  bool includes(Time time, Actor other) const {
    return time <= clock[other] || time <= (other < threads ? threads_known : all_known);
  }
};

class Clocks {
 public:
  static constexpr int kBarrierSlots = 64;

  explicit Clocks(std::size_t threads);

  // Whole warps of them: accesses are looked up by warps (history.h).
  std::size_t actors() const { return actors_; }
  Actor copies_of(int barrier_slot) const;
  Actor tensor_cores_of(std::size_t warp) const;
  bool is_thread(Actor actor) const { return actor < threads_; }
  bool is_tensor_cores(Actor actor) const { return actor >= threads_ + kBarrierSlots; }

  Time now() const { return time_; }
  Time block_start() const { return all_known_; }
  Knowledge known_to(std::size_t thread) const;
  Knowledge known_to_unit(Actor unit, const Clock& clock, Time threads_known) const;

  void start_block();
  void meet_block();
  void meet_warp(std::size_t warp);

  // `published` has an entry per actor.
  void release(std::size_t thread, Clock& published);
  void acquire(std::size_t thread, const Clock& published);

  // The same for everything that a unit beside the threads did until now.
  void release_unit(Actor unit, Clock& published);
  void acquire_unit(std::size_t warp, Actor unit);

 private:
  std::size_t threads_, actors_;
  std::vector<Clock> clocks_;  // of the threads
  Time time_ = 1;
  Time threads_known_ = 0;
  Time all_known_ = 0;
  bool units_used_ = false;
};

}  // namespace efficientad::emulation
