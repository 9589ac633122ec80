#include "cpu/fork.h"

#if defined(__unix__)
#include <omp.h>
#include <pthread.h>
#endif

namespace efficientad::cpu {

#if defined(__unix__)
namespace {

// Only the thread that forks lives on in the child, so that it is the only one whose team matters.
// Within a parallel region this does nothing.
void dismiss_threads() { omp_pause_resource_all(omp_pause_soft); }

}  // namespace

void survive_forks() {
  static const int registered = pthread_atfork(dismiss_threads, nullptr, nullptr);
  static_cast<void>(registered);
}

#else

void survive_forks() {}

#endif

}  // namespace efficientad::cpu
