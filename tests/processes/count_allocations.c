// For LD_PRELOAD: counts the allocations of threads that do not hold Python's global lock, which is
// what kernels run without. They are then glibc's own.
#include <stddef.h>

void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* memory, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
int PyGILState_Check(void);
#pragma weak PyGILState_Check

static _Atomic int counting;
static _Atomic long counted;

void start_counting(void) {
  counted = 0;
  counting = 1;
}

long stop_counting(void) {
  counting = 0;
  return counted;
}

static void count(void) {
  if (counting && PyGILState_Check && !PyGILState_Check()) ++counted;
}

void* malloc(size_t bytes) {
  count();
  return __libc_malloc(bytes);
}

void* calloc(size_t number, size_t bytes) {
  count();
  return __libc_calloc(number, bytes);
}

void* realloc(void* memory, size_t bytes) {
  count();
  return __libc_realloc(memory, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  count();
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory ? 0 : 12;  // ENOMEM
}
