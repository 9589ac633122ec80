// The device primitives of device.h on a CUDA device.
#pragma once

#include <cuda_runtime.h>

#include "cuda/launch_shape.h"
#include "efficientad/execution.h"

#define EFFICIENTAD_DEVICE __device__ __forceinline__
#define EFFICIENTAD_KERNEL(threads) __global__ void __launch_bounds__(threads)

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

template <class T>
class SharedArray {
 public:
  EFFICIENTAD_DEVICE explicit SharedArray(T* data) : data_(data) {}

  EFFICIENTAD_DEVICE T load(std::int64_t index) const { return data_[index]; }
  EFFICIENTAD_DEVICE void store(std::int64_t index, T value) const { data_[index] = value; }
  EFFICIENTAD_DEVICE void atomic_add(std::int64_t index, T value) const {
    atomic_add_at(data_ + index, value);
  }

 private:
  T* data_;
};

class SharedMemory {
 public:
  template <class T>
  EFFICIENTAD_DEVICE SharedArray<T> array(std::size_t count) {
    extern __shared__ __align__(kSharedAlignment) unsigned char shared_memory_of_block[];
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
    *reinterpret_cast<Vector<T, Width>*>(data_ + index) = vector;
  }

 private:
  T* data_ = nullptr;
};

// Runs a kernel on the execution's stream, and says whether it could be launched.
template <class... Parameters>
Status launch(void (*kernel)(Parameters...), const LaunchShape& shape, const Execution& execution,
              const typename Exactly<Parameters>::type&... arguments) {
  const dim3 grid(shape.grid.x, shape.grid.y, shape.grid.z);
  kernel<<<grid, dim3(shape.threads), shape.shared_bytes,
           static_cast<cudaStream_t>(execution.stream)>>>(arguments...);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? kOk : cudaGetErrorString(error);
}

}  // namespace efficientad::cuda
