// How a kernel is run, and what it says of it. Kernels neither allocate device memory nor
// synchronise.
#pragma once

#include <cstdint>

namespace efficientad {

// What a backend needs to know besides the problem: the number of threads on a CPU, the stream
// (a cudaStream_t) on a CUDA device.
struct Execution {
  int threads = 1;
  void* stream = nullptr;
};

// nullptr for success, otherwise a sentence with static storage duration.
using Status = const char*;
inline constexpr Status kOk = nullptr;

}  // namespace efficientad
