// The device primitives: all that kernels know of the machine that runs them.
//
// nvcc maps them to CUDA; a host compiler with EFFICIENTAD_EMULATION maps them to an emulated GPU
// that runs the same kernels with every access checked. Both headers define, in efficientad::cuda:
//
//   EFFICIENTAD_DEVICE                  before a function that kernels call
//   EFFICIENTAD_KERNEL(threads)         before a kernel launched with at most `threads` per block
//   thread_index(), block_threads()     position in and size of the block, warps are 32 neighbours
//   block_index(), grid_blocks()        Extent
//   barrier()                           all threads of the block meet; memory is in order
//   afterwards warp_barrier()                      the same for the 32 lanes of a warp
//   shuffle_xor(value, lanes)           the value of lane `own lane ^ lanes`; the whole warp takes
//   part shuffle_up(value, lanes)            the value of lane `own lane - lanes`, own value if
//   there is none SharedMemory().array<T>(count)      SharedArray<T>, carved off the launch's
//   shared bytes in order:
//                                       load(i), store(i, value), atomic_add(i, value)
//   Global<T>(data, count)              global memory, made by host code: load(i), store(i, value),
//                                       load_vector<W>(i), store_vector(i, vector), atomic_add(i,
//                                       value)
//   launch(kernel, shape, execution, arguments...) -> Status
//
// Warp primitives order no memory except warp_barrier(). Indices count elements.
#pragma once

#ifdef EFFICIENTAD_EMULATION
#include "emulation/device.h"
#else
#include "cuda/native_device.h"
#endif
