// What host code does with a CUDA device: asks for its properties, launches kernels on it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/launch_shape.h"
#include "efficientad/execution.h"

namespace efficientad::cuda {

inline Status status_of(cudaError_t error) {
  return error == cudaSuccess ? kOk : cudaGetErrorString(error);
}

// Of the current device; asks the driver once per device.
inline Status device_properties(DeviceProperties& properties) {
  static std::mutex mutex;
  static std::map<int, DeviceProperties> known;
  int device = 0;
  if (const Status status = status_of(cudaGetDevice(&device)); status != kOk) return status;
  const std::lock_guard<std::mutex> lock(mutex);
  if (const auto found = known.find(device); found != known.end()) {
    properties = found->second;
    return kOk;
  }
  int major = 0, minor = 0;
  Status status =
      status_of(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  if (status != kOk) return status;
  status = status_of(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  if (status != kOk) return status;
  properties.compute_capability = 10 * major + minor;
  status = status_of(
      cudaDeviceGetAttribute(&properties.multiprocessors, cudaDevAttrMultiProcessorCount, device));
  if (status == kOk) known[device] = properties;
  return status;
}

// Lets a kernel's blocks have that much shared memory on the current device. The limit is the
// kernel's, not the launch's: it is only ever raised, as another thread may be about to launch the
// same kernel with more.
inline Status allow_shared_bytes(const void* kernel, std::size_t bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, std::size_t> allowed;
  int device = 0;
  if (const Status status = status_of(cudaGetDevice(&device)); status != kOk) return status;
  const std::lock_guard<std::mutex> lock(mutex);
  std::size_t& most = allowed[{kernel, device}];
  if (bytes <= most) return kOk;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(error);
  }
  most = bytes;
  return kOk;
}

// Runs a kernel on the execution's stream, and says whether it could be launched.
template <class... Parameters>
Status launch(void (*kernel)(Parameters...), const LaunchShape& shape, const Execution& execution,
              const typename Exactly<Parameters>::type&... arguments) {
  if (shape.shared_bytes > kDefaultSharedBytes) {
    const Status status =
        allow_shared_bytes(reinterpret_cast<const void*>(kernel), shape.shared_bytes);
    if (status != kOk) return status;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.grid.x, shape.grid.y, shape.grid.z);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(execution.stream);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  if (error != cudaSuccess) cudaGetLastError();  // the next one to ask is not to be told of it
  return status_of(error);
}

}  // namespace efficientad::cuda
