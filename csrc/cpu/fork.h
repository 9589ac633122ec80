// Forks of the process.
#pragma once

namespace efficientad::cpu {

// A child has none of its parent's threads. GNU's OpenMP does not know that and would wait for them
// forever, in this package's kernels and in torch's; from now on, a thread that forks first
// dismisses those that work for it. The next call makes new ones, in the parent and in the child.
void survive_forks();

}  // namespace efficientad::cpu
