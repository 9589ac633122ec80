#include <array>
#include <string_view>

#include "cuda/device_sm90.h"
#include "emulation/self_test/self_test.h"

namespace efficientad::cuda {
namespace {

enum class Planted {
  none,
  stored_after_arrival,
  silent_lane,
  missing_wait,
  one_lane_waits,
  answered_early,
  counted_while_read
};

constexpr std::array<std::string_view, 7> kNames = {
    "none",           "stored_after_arrival", "silent_lane",       "missing_wait",
    "one_lane_waits", "answered_early",       "counted_while_read"};

constexpr int kThreads = 2 * kWarpSize;

// The lanes of the first warp store neighbouring bytes, which those of the second read after
// waiting; then the bytes go back, neighbours swapped. Both warps count what they see.
EFFICIENTAD_KERNEL(kThreads)
message_kernel(Global<std::uint32_t> result, Planted fault) {
  SharedMemory memory;
  const auto bytes = memory.array<std::uint8_t>(kWarpSize);
  const auto count = memory.array<std::uint32_t>(1);
  const auto barriers = memory.array<std::uint64_t>(2);
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  if (thread_index() == 0) {
    count.store(0, 0);
    transaction_init(barriers, 0, fault == Planted::silent_lane ? kWarpSize - 1 : kWarpSize);
    transaction_init(barriers, 1, 1);
  }
  barrier();

  if (thread_index() < kWarpSize) {
    if (fault != Planted::stored_after_arrival) bytes.store(lane, static_cast<std::uint8_t>(lane));
    if (fault != Planted::silent_lane || lane != 5) transaction_arrive(barriers, 0);
    if (fault == Planted::stored_after_arrival) bytes.store(lane, static_cast<std::uint8_t>(lane));
    transaction_wait(barriers, 1, 0);
    count.atomic_add(0, bytes.load(kWarpSize - 1 - lane));
  } else {
    const bool waits =
        fault == Planted::one_lane_waits ? lane == 0 : fault != Planted::missing_wait;
    if (waits) transaction_wait(barriers, 0, 0);
    const std::uint8_t byte = bytes.load(lane ^ 1);
    count.atomic_add(0, 1);
    if (fault != Planted::answered_early) warp_barrier();
    bytes.store(lane, byte);
    warp_barrier();
    if (lane == 31) transaction_arrive(barriers, 1);
  }

  if (fault != Planted::counted_while_read) barrier();
  if (thread_index() == 33) result.store(0, count.load(0));
}

}  // namespace

Status self_test_messages(const char* fault) {
  const int planted = find_fault(kNames, fault);
  if (planted < 0) return kUnknownFault;
  std::uint32_t result = 0;
  const LaunchShape shape{{},
                          kThreads,
                          shared_bytes<std::uint8_t>(kWarpSize) + shared_bytes<std::uint32_t>(1) +
                              shared_bytes<std::uint64_t>(2)};
  const Status status = launch(message_kernel, shape, Execution{},
                               Global<std::uint32_t>(&result, 1), static_cast<Planted>(planted));
  if (status != kOk) return status;
  return result == kWarpSize * (kWarpSize - 1) / 2 + kWarpSize ? kOk : kWrongResult;
}

}  // namespace efficientad::cuda
