// The device primitives of compute capability 9.0, beside those of device.h: memory barriers that
// count bytes, copies of tensor tiles, and tensor cores that a warpgroup shares. For the kernels in
// csrc/cuda/sm90, which are compiled for sm_90a only.
//
// Transaction barriers are elements of a SharedArray<std::uint64_t>. A phase of one is over when
// `arrivals` threads have arrived and as many bytes have landed as were expected; the next begins
// at once. Phases have parity 0, 1, 0, ... What a thread did before it arrived, and what landed in
// the phase, is in order for those who waited for it:
//   transaction_init(barriers, i, arrivals)
//   transaction_init_fence()
//     by the thread that initialised, before the block's barrier()
//   transaction_arrive(barriers, i)
//   transaction_arrive_expect(barriers, i, bytes)
//   transaction_wait(barriers, i, parity)
//     until the phase under way is not of that parity: until the one of that parity is over. At
//     first, a phase of parity 1 counts as over.
//
// Tiles of a tensor in global memory, described by host code in a TensorMap that the kernel gets
// in a grid constant (see cuda/tensor_tiles.h):
//   make_tensor_map(map, tiles) -> Status
//   load_tile<Rank>(to, i, map, coordinates, barriers, j)
//     By one thread. Copies the box that begins at `coordinates`, counted in elements, to to[i],
//     which lies at a multiple of 1024 bytes; zeros outside of the tensor. All bytes of the box
//     land on the barrier. Shared memory gets rows of 128 bytes, one after the other (the box's
//     second dimension fastest), of which row r has its 16-byte chunk c at chunk c ^ (r % 8).
//
// Tensor cores of a warpgroup, 128 neighbouring threads from a multiple of 128 on, which call all
// of these alike:
//   warpgroup_multiply_add<T>(sum, a, i, b, j)
//     sum += A B^T for 64 rows of A and 128 rows of B, of 32 bytes each (Half: 16, BFloat16: 16,
//     float: 8 elements, read as tf32). Rows lie as load_tile leaves them; i and j are where row
//     0's 32 bytes would lie without the swizzle, in a row at a multiple of 1024 bytes. With
//     g = lane / 4, t = lane % 4 and w the warp's number in its warpgroup:
//       sum[4 n], sum[4 n + 1]      row 16 w + g, columns 8 n + 2 t and 8 n + 2 t + 1
//       sum[4 n + 2], sum[4 n + 3]  row 16 w + g + 8, the same columns
//   warpgroup_fence()
//     before the first multiply_add of a group: registers are in order for it
//   warpgroup_commit()
//     the multiply_adds since the last commit form a group
//   warpgroup_wait<Pending>()
//     Until all groups but the last `Pending` are done. A warp's lanes may then release what the
//     warp itself has read: its 16 rows of A, all of B.
//   warpgroup_fence_sums(sum)
//     Keeps the compiler from moving uses of `sum`: to be called between writing it and
//     warpgroup_fence(), and between warpgroup_wait() and reading or writing it. The emulation
//     fills sums with NaN from multiply_add until that second call.
//
// What store() writes becomes visible to load_tile and warpgroup_multiply_add only after a fence
// that is not provided here, which the emulation does not check: leave the tiles to these two.
#pragma once

#include "cuda/device.h"

#ifdef EFFICIENTAD_EMULATION
#include "emulation/device_sm90.h"
#else
#include "cuda/native_device_sm90.h"
#endif
