// Tensor cores that the four warps of a warpgroup share (sm_90a); cuda/device_sm90.h states the
// layouts.
#pragma once

#include <cstdint>

#include "efficientad/scalar.h"

namespace efficientad::cuda::ptx {

// Describes a matrix in shared memory to the tensor cores: rows of 128 bytes in the 128-byte
// swizzle, K along the row. Fields, in units of 16 bytes: bits 0-13 the start address, bits 32-45
// the distance of groups of eight rows (1024 bytes); bits 16-29 have no meaning in this layout;
// bits 62-63 are 1 for the swizzle. The base offset (bits 49-51) is 0, since groups of eight rows
// lie at multiples of 1024 bytes.
__device__ __forceinline__ std::uint64_t matrix_descriptor(std::uint32_t address) {
  constexpr std::uint64_t kGroupDistance = 1024 / 16;
  constexpr std::uint64_t kSwizzle128Bytes = 1;
  return std::uint64_t{(address & 0x3ffffu) >> 4} | kGroupDistance << 32 | kSwizzle128Bytes << 62;
}

__device__ __forceinline__ void warpgroup_fence() {
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
}

__device__ __forceinline__ void warpgroup_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
}

template <int Pending>
__device__ __forceinline__ void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(Pending) : "memory");
}

// To the compiler, every sum is read and written here.
__device__ __forceinline__ void warpgroup_fence_sums(float (&sum)[64]) {
#pragma unroll
  for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(sum[i]) : : "memory");
}

// The numbers after the operands: add to the sums (a predicate); negate neither A nor B; and, for
// 16-bit types, transpose neither, so that K runs along the rows of both.
#define EFFICIENTAD_WARPGROUP_MULTIPLY_ADD(shape_and_types, modifiers)                            \
  asm volatile(                                                                                   \
      "{\n"                                                                                       \
      ".reg .pred add;\n"                                                                         \
      "setp.ne.b32 add, 1, 0;\n"                                                                  \
      "wgmma.mma_async.sync.aligned." shape_and_types                                             \
      " "                                                                                         \
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                   \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "          \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "          \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "         \
      "%64, %65, add, " modifiers                                                                 \
      ";\n"                                                                                       \
      "}"                                                                                         \
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]),       \
        "+f"(sum[6]), "+f"(sum[7]), "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]),     \
        "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15]), "+f"(sum[16]), "+f"(sum[17]), \
        "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]), \
        "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), "+f"(sum[28]), "+f"(sum[29]), \
        "+f"(sum[30]), "+f"(sum[31]), "+f"(sum[32]), "+f"(sum[33]), "+f"(sum[34]), "+f"(sum[35]), \
        "+f"(sum[36]), "+f"(sum[37]), "+f"(sum[38]), "+f"(sum[39]), "+f"(sum[40]), "+f"(sum[41]), \
        "+f"(sum[42]), "+f"(sum[43]), "+f"(sum[44]), "+f"(sum[45]), "+f"(sum[46]), "+f"(sum[47]), \
        "+f"(sum[48]), "+f"(sum[49]), "+f"(sum[50]), "+f"(sum[51]), "+f"(sum[52]), "+f"(sum[53]), \
        "+f"(sum[54]), "+f"(sum[55]), "+f"(sum[56]), "+f"(sum[57]), "+f"(sum[58]), "+f"(sum[59]), \
        "+f"(sum[60]), "+f"(sum[61]), "+f"(sum[62]), "+f"(sum[63])                                \
      : "l"(a), "l"(b)                                                                            \
      : "memory")

// Chosen by the type of the last argument.
__device__ __forceinline__ void warpgroup_multiply_add(float (&sum)[64], std::uint64_t a,
                                                       std::uint64_t b, Half) {
  EFFICIENTAD_WARPGROUP_MULTIPLY_ADD("m64n128k16.f32.f16.f16", "1, 1, 0, 0");
}

__device__ __forceinline__ void warpgroup_multiply_add(float (&sum)[64], std::uint64_t a,
                                                       std::uint64_t b, BFloat16) {
  EFFICIENTAD_WARPGROUP_MULTIPLY_ADD("m64n128k16.f32.bf16.bf16", "1, 1, 0, 0");
}

__device__ __forceinline__ void warpgroup_multiply_add(float (&sum)[64], std::uint64_t a,
                                                       std::uint64_t b, float) {
  EFFICIENTAD_WARPGROUP_MULTIPLY_ADD("m64n128k8.f32.tf32.tf32", "1, 1");
}

#undef EFFICIENTAD_WARPGROUP_MULTIPLY_ADD

}  // namespace efficientad::cuda::ptx
