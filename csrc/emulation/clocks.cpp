#include "emulation/clocks.h"

#include <algorithm>

#include "cuda/launch_shape.h"
#include "emulation/vectorized.h"

namespace efficientad::emulation {
namespace {

// A thread's own accesses always come before what it does next.
constexpr Time kAlways = kPending - 1;

std::size_t in_whole_warps(std::size_t actors) {
  return (actors + cuda::kWarpSize - 1) / cuda::kWarpSize * cuda::kWarpSize;
}

EFFICIENTAD_VECTORIZED
void join_times(Time* times, const Time* others, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) times[i] = std::max(times[i], others[i]);
}

EFFICIENTAD_VECTORIZED
void meet_times(Time* times, const Time* others, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) times[i] = std::min(times[i], others[i]);
}

}  // namespace

void join(Clock& clock, const Clock& other) {
  join_times(clock.data(), other.data(), clock.size());
}

void meet(Clock& clock, const Time* other) { meet_times(clock.data(), other, clock.size()); }

Clocks::Clocks(std::size_t threads)
    : threads_(threads),
      actors_(in_whole_warps(threads + kBarrierSlots + threads / cuda::kWarpSize)),
      clocks_(threads, Clock(actors_, 0)) {
  for (std::size_t thread = 0; thread < threads; ++thread) clocks_[thread][thread] = kAlways;
}

Actor Clocks::copies_of(int barrier_slot) const {
  return static_cast<Actor>(threads_ + static_cast<std::size_t>(barrier_slot));
}

Actor Clocks::tensor_cores_of(std::size_t warp) const {
  return static_cast<Actor>(threads_ + kBarrierSlots + warp);
}

Knowledge Clocks::known_to(std::size_t thread) const {
  return {static_cast<Actor>(thread), clocks_[thread].data(), threads_, threads_known_, all_known_};
}

Knowledge Clocks::known_to_unit(Actor unit, const Clock& clock, Time threads_known) const {
  return {unit, clock.data(), threads_, threads_known, all_known_};
}

void Clocks::start_block() {
  all_known_ = threads_known_ = time_++;
  units_used_ = false;
}

void Clocks::meet_block() {
  threads_known_ = time_++;
  if (!units_used_) return;
  const std::size_t units = actors() - threads_;
  Clock all(units, 0);
  for (const Clock& clock : clocks_) join_times(all.data(), clock.data() + threads_, units);
  for (Clock& clock : clocks_) std::copy(all.begin(), all.end(), clock.begin() + threads_);
}

void Clocks::meet_warp(std::size_t warp) {
  const std::size_t first = warp * cuda::kWarpSize;
  const Time now = time_++;
  Clock all = clocks_[first];
  for (std::size_t lane = 1; lane < cuda::kWarpSize; ++lane) join(all, clocks_[first + lane]);
  std::fill_n(all.begin() + static_cast<std::ptrdiff_t>(first), cuda::kWarpSize, now);
  for (std::size_t lane = 0; lane < cuda::kWarpSize; ++lane) {
    clocks_[first + lane] = all;
    clocks_[first + lane][first + lane] = kAlways;
  }
}

void Clocks::release(std::size_t thread, Clock& published) {
  Clock& own = clocks_[thread];
  own[thread] = time_++;
  join(published, own);
  own[thread] = kAlways;
}

void Clocks::acquire(std::size_t thread, const Clock& published) {
  join(clocks_[thread], published);
}

void Clocks::release_unit(Actor unit, Clock& published) {
  units_used_ = true;
  published[unit] = time_++;
}

void Clocks::acquire_unit(std::size_t warp, Actor unit) {
  units_used_ = true;
  const Time now = time_++;
  for (std::size_t lane = 0; lane < cuda::kWarpSize; ++lane) {
    clocks_[warp * cuda::kWarpSize + lane][unit] = now;
  }
}

}  // namespace efficientad::emulation
