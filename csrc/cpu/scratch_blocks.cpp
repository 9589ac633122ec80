#include "cpu/scratch_blocks.h"

#include <cstddef>
#include <cstdlib>

namespace efficientad::cpu {
namespace {

constexpr std::size_t kAlignment = 64;

// More than any kernel holds at once.
constexpr int kBlocks = 24;

struct ThreadScratch {
  ScratchBlock blocks[kBlocks];

  ~ThreadScratch() {
    for (ScratchBlock& block : blocks) std::free(block.memory);
  }
};

bool grow(ScratchBlock& block, std::int64_t bytes) {
  std::free(block.memory);
  const std::size_t lines = static_cast<std::size_t>(bytes) / kAlignment + 1;
  block.memory = std::aligned_alloc(kAlignment, lines * kAlignment);
  block.bytes = block.memory == nullptr ? 0 : bytes;
  return block.memory != nullptr;
}

}  // namespace

ScratchBlock* take_scratch(std::int64_t bytes) {
  static thread_local ThreadScratch scratch;
  // The first free one: kernels ask in the same order each time, so that each block soon has the
  // size that is asked for.
  for (ScratchBlock& block : scratch.blocks) {
    if (block.taken) continue;
    if ((block.memory == nullptr || block.bytes < bytes) && !grow(block, bytes)) return nullptr;
    block.taken = true;
    return &block;
  }
  return nullptr;
}

}  // namespace efficientad::cpu
