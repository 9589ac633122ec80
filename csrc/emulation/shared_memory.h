// The shared memory of an emulated block, with a record of who touched each byte and when.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emulation/fault.h"

namespace efficientad::emulation {

// When an access happens: epochs count the barriers of the block and of the thread's warp so far.
// They go on counting from block to block, as the memory does.
struct Moment {
  std::int32_t thread = 0;
  std::int32_t warp = 0;
  std::uint64_t block_epoch = 0;
  std::uint64_t warp_epoch = 0;
};

enum class AccessKind { read, write, atomic };

// Finds data races exactly, whatever order the threads happened to run in: two accesses to one byte
// by different threads, at least one of them a write and not both atomic, must have a barrier of
// the block, or of the warp that both belong to, between them. Reading what was never written is a
// fault.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes);

  // Fills the memory with 0xff bytes (NaN in every floating type). Accesses before block_epoch
  // `now` belong to blocks that are gone.
  void poison(std::uint64_t now);

  std::size_t bytes() const { return size_; }
  unsigned char* data() { return aligned_; }

  // Checks and records an access to [offset, offset + bytes), which must lie inside.
  void record(AccessKind kind, std::size_t offset, std::size_t bytes, const Moment& now, Site site);

 private:
  static constexpr std::int32_t kSeveral = -1;

  struct Access {
    Moment moment;
    Site site{"", 0};
    bool atomic = false;
  };
  struct History {
    Access write;
    Access read;  // of several threads: thread, and of several warps: warp, is kSeveral
  };

  static bool ordered(const Access& earlier, const Moment& now);
  static void check(const Access& earlier, AccessKind kind, const Moment& now, Site site);

  std::size_t size_;
  std::uint64_t first_epoch_ = 0;
  std::vector<unsigned char> storage_;
  unsigned char* aligned_;
  std::vector<History> history_;
};

}  // namespace efficientad::emulation
