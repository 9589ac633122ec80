// Work shared between threads.
#pragma once

#include <cstdint>

#include "cpu/buffer.h"
#include "efficientad/execution.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// Below this many elements a thread costs more than it saves.
inline constexpr std::int64_t kElementsPerThread = 1 << 14;

inline int useful_threads(const Execution& execution, std::int64_t elements) {
  const std::int64_t useful = elements / kElementsPerThread;
  if (useful <= 1) return 1;
  return useful < execution.threads ? static_cast<int>(useful) : execution.threads;
}

struct Range {
  std::int64_t begin, end;
};

// Part `index` of `parts` nearly equal, consecutive parts of [0, count).
inline Range part_of(std::int64_t count, std::int64_t index, std::int64_t parts) {
  return {count * index / parts, count * (index + 1) / parts};
}

// Calls work(thread, begin, end) on consecutive parts of [0, count), one per thread.
template <class Work>
inline void parallel_ranges(int threads, std::int64_t count, const Work& work) {
  if (count <= 0) return;
  if (threads > count) threads = static_cast<int>(count);
  if (threads <= 1) {
    work(0, std::int64_t{0}, count);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread) {
    const Range range = part_of(count, thread, threads);
    work(thread, range.begin, range.end);
  }
}

// The same for work that can fail: returns the first failure, or kOk.
template <class Work>
inline Status parallel_ranges_with_status(int threads, std::int64_t count, const Work& work) {
  Array<Status> statuses(threads);
  for (int thread = 0; thread < threads; ++thread) statuses[thread] = kOk;
  parallel_ranges(threads, count, [&](int thread, std::int64_t begin, std::int64_t end) {
    statuses[thread] = work(thread, begin, end);
  });
  for (int thread = 0; thread < threads; ++thread) {
    if (statuses[thread] != kOk) return statuses[thread];
  }
  return kOk;
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
