// The device primitives: all that kernels know of the machine that runs them.
//
// nvcc maps them to CUDA; a host compiler with EFFICIENTAD_EMULATION maps them to an emulated GPU
// that runs the same kernels with every access checked. Both headers define, in efficientad::cuda:
//
// For host code:
//   device_properties(properties) -> Status
//     of the current device
//   launch(kernel, shape, execution, arguments...) -> Status
//   Global<T>(data, count)
//     global memory, as kernels take it
//
// For declarations:
//   EFFICIENTAD_DEVICE
//     before a function that kernels call
//   EFFICIENTAD_KERNEL(threads)
//     before a kernel launched with at most `threads` per block
//   const EFFICIENTAD_GRID_CONSTANT Parameters parameters
//     a kernel parameter that stays where it is, so that its address can be taken
//
// Threads and warps. Of these, only the barriers order memory:
//   thread_index(), block_threads()
//     position in and size of the block; warps are 32 neighbours
//   block_index(), grid_blocks() -> Extent
//   barrier(), warp_barrier()
//     all threads of the block, or of the warp, meet; memory is in order after it
//   shuffle_xor(value, lanes), shuffle_up(value, lanes)
//     the value of lane `own lane ^ lanes`; of lane `own lane - lanes`, or the own one
//
// Memory. Indices count elements; vectors lie at a multiple of their size:
//   SharedMemory().array<T>(count) -> SharedArray<T>
//     carved off the launch's bytes in order; the first lies at a multiple of 1024 bytes
//   of SharedArray<T> and Global<T>: load(i), store(i, value), atomic_add(i, value),
//     load_vector<W>(i), store_vector(i, vector)
//
// Asynchronous copies of 16 bytes, between places at multiples of 16 bytes:
//   copy_async(to, i, from, j, present)
//     from global to shared memory; where not present, zeros, and `from` is not read
//   copy_async_commit()
//     the thread's copies since its last commit form a group
//   copy_async_wait<Pending>()
//     until all of the thread's groups but the last `Pending` are there; other threads may read
//     them after a barrier
//
// Tensor cores of compute capability 8.0; the whole warp takes part:
//   load_matrices(array, i) -> Vector<std::uint32_t, 4>
//     Four matrices of 8 rows of 16 bytes. Lane 8 m + r gives the index of row r of matrix m; word
//     m of the result of lane l holds the bytes 4 (l % 4) .. + 3 of row l / 4 of matrix m.
//   multiply_add<T>(sum, a, b0, b1)
//     sum += A B for a 16 x K matrix A and a K x 8 matrix B, where K elements take 32 bytes (Half:
//     16, BFloat16: 16, float: 8, read as tf32: the low 13 bits are ignored). Operands are words of
//     4 bytes, whose elements follow each other in K. With g = lane / 4 and t = lane % 4:
//       a[0], a[1]  words t of rows g and g + 8 of A
//       a[2], a[3]  words t + 4 of rows g and g + 8 of A
//       b0, b1      words t and t + 4 of column g of B
//       sum[0..1]   row g, columns 2 t and 2 t + 1
//       sum[2..3]   row g + 8, the same columns
//     So load_matrices gives `a` where its matrices are the rows 0-7 and 8-15 of the first 16
//     bytes, then of the second.
//   round_to_tf32(value)
//     to 10 bits of mantissa, nearest, ties away from zero
#pragma once

#ifdef EFFICIENTAD_EMULATION
#include "emulation/device.h"
#else
#include "cuda/native_device.h"
#endif
