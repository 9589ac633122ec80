// The parts of an emulated block that the units beside its threads work with.
#pragma once

#include "emulation/clocks.h"
#include "emulation/scheduler.h"
#include "emulation/shared_memory.h"

namespace efficientad::emulation {

struct BlockParts {
  explicit BlockParts(const cuda::LaunchShape& shape)
      : clocks(shape.threads), memory(shape.shared_bytes, clocks), scheduler(shape.threads) {}
  BlockParts(const BlockParts&) = delete;
  BlockParts& operator=(const BlockParts&) = delete;

  // An access to shared memory by the running thread.
  void record(AccessKind kind, std::size_t offset, std::size_t bytes, SiteName site) {
    memory.history().record(kind, offset, bytes, clocks.known_to(scheduler.running()), site);
  }

  Clocks clocks;
  SharedMemory memory;
  Scheduler scheduler;
};

}  // namespace efficientad::emulation
