#include "emulation/launch.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulation/block.h"

namespace efficientad::emulation {
namespace {

std::atomic<std::uint64_t> next_seed{0};
std::atomic<int> compute_capability{90};
std::atomic<std::size_t> largest_shared_bytes{0};

std::size_t maximum_shared_bytes() {
  if (compute_capability == 90) return cuda::kMaximumSharedBytes;
  return (compute_capability == 80 ? 163 : 99) * 1024;
}

// Gives a message static storage duration, as Status asks for.
Status keep(const std::string& message) {
  static std::mutex mutex;
  static std::set<std::string>* const messages = new std::set<std::string>;
  const std::lock_guard<std::mutex> lock(mutex);
  return messages->insert(message).first->c_str();
}

Status check(const cuda::LaunchShape& shape) {
  const cuda::Extent& grid = shape.grid;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 0xffffu ||
      grid.z > 0xffffu) {
    return "the grid has a dimension that no GPU accepts";
  }
  if (shape.threads < 1 || shape.threads > 1024 || shape.threads % cuda::kWarpSize != 0) {
    return "a block must have 1 to 32 whole warps";
  }
  if (shape.shared_bytes > maximum_shared_bytes()) {
    return "the block asks for more shared memory than the GPU has for it";
  }
  return kOk;
}

}  // namespace

void set_seed(std::uint64_t seed) { next_seed = seed; }

void set_compute_capability(int value) {
  if (value < 70) throw std::invalid_argument("the emulated GPU has compute capability 70 or more");
  compute_capability = value;
}

std::size_t take_largest_shared_bytes() { return largest_shared_bytes.exchange(0); }

cuda::DeviceProperties device_properties() {
  return {compute_capability, static_cast<int>(cuda::kMaximumBlocks)};
}

Status run_grid(const cuda::LaunchShape& shape, const std::function<void()>& kernel) {
  if (const Status status = check(shape); status != kOk) return status;
  if (shape.shared_bytes > largest_shared_bytes) largest_shared_bytes = shape.shared_bytes;
  try {
    Random random(next_seed++);
    const cuda::Extent& grid = shape.grid;
    std::vector<std::uint64_t> order(std::uint64_t{grid.x} * grid.y * grid.z);
    std::iota(order.begin(), order.end(), std::uint64_t{0});
    std::shuffle(order.begin(), order.end(), random);
    Block block(shape);
    for (const std::uint64_t flat : order) {
      const cuda::Extent index{static_cast<std::uint32_t>(flat % grid.x),
                               static_cast<std::uint32_t>(flat / grid.x % grid.y),
                               static_cast<std::uint32_t>(flat / grid.x / grid.y)};
      block.run(index, kernel, random);
    }
    return kOk;
  } catch (const std::exception& error) {
    return keep(std::string("emulated GPU: ") + error.what());
  }
}

}  // namespace efficientad::emulation
