// Where a plan keeps what its steps hand on.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/arena.h"

namespace efficientad::engine {

// Feature maps alternate between an even and an odd buffer. The PDN and the autoencoder share
// nothing, so that they can run at the same time.
enum class Buffer {
  pdn_even,
  pdn_odd,
  autoencoder_even,
  autoencoder_odd,
  local_planes,
  global_planes,
  window_means,
  window_means_workspace,
  features
};

class Workspace {
 public:
  // Makes a buffer at least this large.
  void require(Buffer buffer, std::int64_t bytes) {
    bytes_[index(buffer)] = std::max(bytes_[index(buffer)], bytes);
  }

  // Gives every buffer its place; nothing can be required afterwards.
  void place() {
    for (std::size_t i = 0; i < kBuffers; ++i) offsets_[i] = arena_.add(bytes_[i]);
  }

  std::int64_t offset(Buffer buffer) const { return offsets_[index(buffer)]; }
  std::int64_t bytes() const { return arena_.bytes(); }

 private:
  static constexpr std::size_t kBuffers = static_cast<std::size_t>(Buffer::features) + 1;
  static std::size_t index(Buffer buffer) { return static_cast<std::size_t>(buffer); }

  std::array<std::int64_t, kBuffers> bytes_{}, offsets_{};
  Arena arena_;
};

}  // namespace efficientad::engine
