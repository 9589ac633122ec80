// Kernels with planted faults, to show that the emulation finds them.
#pragma once

#include <cstdint>

#include "efficientad/execution.h"

namespace efficientad::cuda {

// Runs the kernel `subject` with the planted `fault`, or "none", on random data, and returns the
// status of its launch; that of a sound kernel is not kOk either if its result is wrong. Subjects
// are "launches" (what host code asks for), "threads" (barriers, shuffles, memory), "matrices"
// (asynchronous copies and tensor cores of compute capability 8.0), "messages" (transaction
// barriers of 9.0 between threads) and "tiles" (tensor copies and warpgroups of 9.0).
Status emulation_self_test(const char* subject, const char* fault);

// The subjects, one per file.
Status self_test_launches(const char* fault);
Status self_test_threads(const char* fault);
Status self_test_matrices(const char* fault);
Status self_test_messages(const char* fault);
Status self_test_tiles(const char* fault);

inline constexpr Status kUnknownFault = "the self-test knows no such fault";
inline constexpr Status kWrongResult = "the emulation ran the kernel and gave a wrong result";

// The position of `fault` among the names, in which "none" comes first; -1 if it is not there.
template <class Names>
int find_fault(const Names& names, const char* fault) {
  for (int index = 0; index < static_cast<int>(names.size()); ++index) {
    if (names[static_cast<std::size_t>(index)] == fault) return index;
  }
  return -1;
}

}  // namespace efficientad::cuda
