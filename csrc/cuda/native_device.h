// The device primitives of device.h on a CUDA device.
#pragma once

#include <cuda_runtime.h>

#include <cstring>
#include <type_traits>

#include "cuda/native_launch.h"
#include "cuda/ptx/copy_async.h"
#include "cuda/ptx/matrices.h"
#include "cuda/ptx/store.h"

#define EFFICIENTAD_DEVICE __device__ __forceinline__
#define EFFICIENTAD_KERNEL(threads) __global__ void __launch_bounds__(threads)
#define EFFICIENTAD_GRID_CONSTANT __grid_constant__

namespace efficientad::cuda {

EFFICIENTAD_DEVICE std::uint32_t thread_index() { return threadIdx.x; }
EFFICIENTAD_DEVICE std::uint32_t block_threads() { return blockDim.x; }
EFFICIENTAD_DEVICE Extent block_index() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
EFFICIENTAD_DEVICE Extent grid_blocks() { return {gridDim.x, gridDim.y, gridDim.z}; }

EFFICIENTAD_DEVICE void barrier() { __syncthreads(); }
EFFICIENTAD_DEVICE void warp_barrier() { __syncwarp(); }

template <class T>
EFFICIENTAD_DEVICE T shuffle_xor(T value, int lanes) {
  return __shfl_xor_sync(kWholeWarp, value, lanes);
}

template <class T>
EFFICIENTAD_DEVICE T shuffle_up(T value, int lanes) {
  return __shfl_up_sync(kWholeWarp, value, static_cast<unsigned>(lanes));
}

EFFICIENTAD_DEVICE void atomic_add_at(std::uint32_t* address, std::uint32_t value) {
  atomicAdd(address, value);
}

EFFICIENTAD_DEVICE void atomic_add_at(std::uint64_t* address, std::uint64_t value) {
  static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
  atomicAdd(reinterpret_cast<unsigned long long*>(address), static_cast<unsigned long long>(value));
}

// Two doubles go through the stack on their way to four words, and are left to the compiler.
template <class T, int Width>
inline constexpr bool kIsFourWords = sizeof(T) < 8 && sizeof(T) * Width == 16;

// The bits of a vector of 16 bytes.
struct Words {
  template <class T, int Width>
  EFFICIENTAD_DEVICE explicit Words(const Vector<T, Width>& vector) {
    static_assert(kIsFourWords<T, Width>);
    memcpy(words, &vector, sizeof(words));
  }

  std::uint32_t words[4];
};

template <class T>
class SharedArray {
 public:
  EFFICIENTAD_DEVICE explicit SharedArray(T* data) : data_(data) {}

  EFFICIENTAD_DEVICE T load(std::int64_t index) const { return data_[index]; }
  EFFICIENTAD_DEVICE void store(std::int64_t index, T value) const { data_[index] = value; }
  EFFICIENTAD_DEVICE void atomic_add(std::int64_t index, T value) const {
    atomic_add_at(data_ + index, value);
  }

  template <int Width>
  EFFICIENTAD_DEVICE Vector<T, Width> load_vector(std::int64_t index) const {
    return *reinterpret_cast<const Vector<T, Width>*>(data_ + index);
  }
  template <int Width>
  EFFICIENTAD_DEVICE void store_vector(std::int64_t index, const Vector<T, Width>& vector) const {
    if constexpr (kIsFourWords<T, Width>) {
      ptx::store_shared(address(index), Words(vector).words);
    } else {
      *reinterpret_cast<Vector<T, Width>*>(data_ + index) = vector;
    }
  }

  // In the shared window, as instructions that name their address space take it.
  EFFICIENTAD_DEVICE std::uint32_t address(std::int64_t index) const {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(data_ + index));
  }

 private:
  T* data_;
};

class SharedMemory {
 public:
  template <class T>
  EFFICIENTAD_DEVICE SharedArray<T> array(std::size_t count) {
    extern __shared__ __align__(kSharedMemoryAlignment) unsigned char shared_memory_of_block[];
    T* data = reinterpret_cast<T*>(shared_memory_of_block + used_);
    used_ += shared_bytes<T>(count);
    return SharedArray<T>(data);
  }

 private:
  std::size_t used_ = 0;
};

// The number of elements serves the emulation only.
template <class T>
class Global {
 public:
  Global() = default;
  Global(T* data, std::int64_t) : data_(data) {}

  EFFICIENTAD_DEVICE T load(std::int64_t index) const { return data_[index]; }
  EFFICIENTAD_DEVICE void store(std::int64_t index, T value) const { data_[index] = value; }
  EFFICIENTAD_DEVICE void atomic_add(std::int64_t index, T value) const {
    atomic_add_at(data_ + index, value);
  }

  template <int Width>
  EFFICIENTAD_DEVICE Vector<std::remove_const_t<T>, Width> load_vector(std::int64_t index) const {
    return *reinterpret_cast<const Vector<std::remove_const_t<T>, Width>*>(data_ + index);
  }
  template <int Width>
  EFFICIENTAD_DEVICE void store_vector(std::int64_t index, const Vector<T, Width>& vector) const {
    if constexpr (kIsFourWords<T, Width>) {
      ptx::store_global(data_ + index, Words(vector).words);
    } else {
      *reinterpret_cast<Vector<T, Width>*>(data_ + index) = vector;
    }
  }

  EFFICIENTAD_DEVICE T* address(std::int64_t index) const { return data_ + index; }

 private:
  T* data_ = nullptr;
};

template <class T>
EFFICIENTAD_DEVICE void copy_async(const SharedArray<T>& to, std::int64_t index,
                                   const Global<const T>& from, std::int64_t from_index,
                                   bool present) {
  ptx::copy_async(to.address(index), from.address(present ? from_index : 0), present);
}

EFFICIENTAD_DEVICE void copy_async_commit() { ptx::copy_async_commit(); }

template <int Pending>
EFFICIENTAD_DEVICE void copy_async_wait() {
  ptx::copy_async_wait<Pending>();
}

template <class T>
EFFICIENTAD_DEVICE Vector<std::uint32_t, 4> load_matrices(const SharedArray<T>& array,
                                                          std::int64_t index) {
  Vector<std::uint32_t, 4> words;
  ptx::load_matrices(array.address(index), words.values);
  return words;
}

template <class T>
EFFICIENTAD_DEVICE void multiply_add(float (&sum)[4], const Vector<std::uint32_t, 4>& a,
                                     std::uint32_t b0, std::uint32_t b1) {
  ptx::multiply_add(sum, a.values, b0, b1, T{});
}

EFFICIENTAD_DEVICE float round_to_tf32(float value) { return ptx::round_to_tf32(value); }

}  // namespace efficientad::cuda
