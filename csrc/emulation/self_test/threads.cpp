#include <array>
#include <string_view>

#include "cuda/device.h"
#include "emulation/self_test/self_test.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = 64;

enum class Planted {
  none,
  missing_barrier,
  missing_warp_barrier,
  shared_out_of_bounds,
  shared_uninitialized,
  global_out_of_bounds,
  global_misaligned,
  divergent_barrier,
  skipped_barrier,
  early_exit,
  divergent_shuffle
};

constexpr std::array<std::string_view, 11> kNames = {"none",
                                                     "missing_barrier",
                                                     "missing_warp_barrier",
                                                     "shared_out_of_bounds",
                                                     "shared_uninitialized",
                                                     "global_out_of_bounds",
                                                     "global_misaligned",
                                                     "divergent_barrier",
                                                     "skipped_barrier",
                                                     "early_exit",
                                                     "divergent_shuffle"};

// Reverses the values of a block through shared memory, then those of each warp, then swaps
// neighbours by a shuffle.
EFFICIENTAD_KERNEL(kThreads)
reverse_kernel(Global<const float> input, Global<float> output, Planted fault) {
  const int thread = static_cast<int>(thread_index());
  if (fault == Planted::early_exit && thread == 63) return;
  SharedMemory memory;
  const auto values = memory.array<float>(kThreads);
  const int past_end = fault == Planted::shared_out_of_bounds ? 1 : 0;
  if (fault != Planted::shared_uninitialized || thread != 7) {
    values.store(thread + past_end, input.load(thread));
  }
  if (fault == Planted::divergent_barrier && thread < kWarpSize) {
    barrier();
  } else if (fault != Planted::missing_barrier &&
             (fault != Planted::skipped_barrier || thread != 3)) {
    barrier();
  }
  float value = values.load(kThreads - 1 - thread);
  barrier();

  values.store(thread, value);
  if (fault != Planted::missing_warp_barrier) warp_barrier();
  value = values.load(thread ^ (kWarpSize - 1));

  if (fault == Planted::divergent_shuffle && thread % 2 == 0) {
    value = shuffle_xor(value, 1);
  } else {
    value = shuffle_xor(value, 1);
  }
  output.store(thread + (fault == Planted::global_out_of_bounds ? 1 : 0), value);
  if (fault == Planted::global_misaligned) input.load_vector<2>(1);
}

}  // namespace

Status self_test_threads(const char* fault) {
  const int planted = find_fault(kNames, fault);
  if (planted < 0) return kUnknownFault;
  alignas(16) std::array<float, kThreads> input;
  std::array<float, kThreads> output{};
  for (int i = 0; i < kThreads; ++i) input[i] = static_cast<float>(i);
  const LaunchShape shape{{}, kThreads, shared_bytes<float>(kThreads)};
  const Status status =
      launch(reverse_kernel, shape, Execution{}, Global<const float>(input.data(), kThreads),
             Global<float>(output.data(), kThreads), static_cast<Planted>(planted));
  if (status != kOk) return status;
  for (int i = 0; i < kThreads; ++i) {
    const int source = kThreads - 1 - (i ^ 1 ^ (kWarpSize - 1));
    if (output[i] != input[source]) return kWrongResult;
  }
  return kOk;
}

}  // namespace efficientad::cuda
