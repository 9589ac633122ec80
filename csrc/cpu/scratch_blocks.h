// Memory that kernels work in during a call, kept by each thread for the calls to come: a kernel
// that is called again with the same sizes allocates nothing. Which threads share a call's work,
// and how many, may change from call to call, so this is no part of a plan.
#pragma once

#include <cstdint>

namespace efficientad::cpu {

struct ScratchBlock {
  void* memory = nullptr;
  std::int64_t bytes = 0;
  bool taken = false;
};

// One of this thread's blocks, of at least so many bytes, aligned for any vector; nullptr if there
// is no memory. It is the caller's until he sets `taken` to false, in the same thread. Blocks grow
// and never shrink; they are freed when the thread ends.
ScratchBlock* take_scratch(std::int64_t bytes);

}  // namespace efficientad::cpu
