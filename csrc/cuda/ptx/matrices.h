// Matrix instructions of a warp (sm_80); cuda/device.h states the layouts.
#pragma once

#include <cstdint>

#include "efficientad/scalar.h"

namespace efficientad::cuda::ptx {

__device__ __forceinline__ void load_matrices(std::uint32_t address, std::uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

#define EFFICIENTAD_MULTIPLY_ADD(shape_and_types)                                 \
  asm volatile("mma.sync.aligned." shape_and_types                                \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])           \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

// Chosen by the type of the last argument.
__device__ __forceinline__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4],
                                             std::uint32_t b0, std::uint32_t b1, Half) {
  EFFICIENTAD_MULTIPLY_ADD("m16n8k16.row.col.f32.f16.f16.f32");
}

__device__ __forceinline__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4],
                                             std::uint32_t b0, std::uint32_t b1, BFloat16) {
  EFFICIENTAD_MULTIPLY_ADD("m16n8k16.row.col.f32.bf16.bf16.f32");
}

__device__ __forceinline__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4],
                                             std::uint32_t b0, std::uint32_t b1, float) {
  EFFICIENTAD_MULTIPLY_ADD("m16n8k8.row.col.f32.tf32.tf32.f32");
}

#undef EFFICIENTAD_MULTIPLY_ADD

__device__ __forceinline__ float round_to_tf32(float value) {
  std::uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}

}  // namespace efficientad::cuda::ptx
