// Work shared between threads.
#pragma once

#include <cstdint>

#include "efficientad/execution.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

inline constexpr Status kOutOfMemory = "out of memory";

// Below this many elements a thread costs more than it saves.
inline constexpr std::int64_t kElementsPerThread = 1 << 14;

// The threads of a call, of which the first `useful` ones get work. The others come along: a team
// of another size than the last one would end threads, and the next one start and equip them anew.
struct Team {
  int threads, useful;
};

inline Team team_for(const Execution& execution, std::int64_t elements) {
  std::int64_t useful = elements / kElementsPerThread;
  if (useful > execution.threads) useful = execution.threads;
  if (useful < 1) useful = 1;
  return {execution.threads, static_cast<int>(useful)};
}

struct Range {
  std::int64_t begin, end;
};

// Part `index` of `parts` nearly equal, consecutive parts of [0, count).
inline Range part_of(std::int64_t count, std::int64_t index, std::int64_t parts) {
  return {count * index / parts, count * (index + 1) / parts};
}

// Calls work(part, begin, end) on consecutive parts of [0, count), one per useful thread.
template <class Work>
inline void parallel_ranges(const Team& team, std::int64_t count, const Work& work) {
  if (count <= 0) return;
  const int parts = team.useful < count ? team.useful : static_cast<int>(count);
  if (parts <= 1) {
    work(0, std::int64_t{0}, count);
    return;
  }
#pragma omp parallel for num_threads(team.threads) schedule(static, 1)
  for (int part = 0; part < parts; ++part) {
    const Range range = part_of(count, part, parts);
    work(part, range.begin, range.end);
  }
}

// The same for work that can fail: returns one of the failures, or kOk.
template <class Work>
inline Status parallel_ranges_with_status(const Team& team, std::int64_t count, const Work& work) {
  Status failure = kOk;
  parallel_ranges(team, count, [&](int part, std::int64_t begin, std::int64_t end) {
    const Status status = work(part, begin, end);
    if (status != kOk) {
#pragma omp atomic write
      failure = status;
    }
  });
  return failure;
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
