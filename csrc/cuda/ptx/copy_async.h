// Asynchronous copies from global to shared memory (sm_80). Shared addresses are those of the
// shared window.
#pragma once

#include <cstdint>

namespace efficientad::cuda::ptx {

// Copies 16 bytes past the L1 cache; writes zeros and reads nothing unless `present`.
__device__ __forceinline__ void copy_async(std::uint32_t to, const void* from, bool present) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to), "l"(from), "r"(present ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" : : : "memory");
}

template <int Pending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(Pending) : "memory");
}

}  // namespace efficientad::cuda::ptx
