#include "bindings/cuda_target.h"

#include <cuda_runtime_api.h>

#include <memory>
#include <stdexcept>

#include "cuda/backend.h"

namespace efficientad::bindings {
namespace {

class CudaDeviceScope final : public DeviceScope {
 public:
  explicit CudaDeviceScope(int index) {
    check(cudaGetDevice(&previous_));
    changed_ = index != previous_;
    if (changed_) check(cudaSetDevice(index));
  }
  ~CudaDeviceScope() override {
    if (changed_) cudaSetDevice(previous_);
  }

 private:
  static void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
  }

  int previous_ = 0;
  bool changed_ = false;
};

}  // namespace

Target cuda_target() {
  return {&cuda::backend(), Device::cuda,
          [](std::int64_t context) {
            return Execution{1, reinterpret_cast<void*>(static_cast<std::intptr_t>(context))};
          },
          [](int index) -> std::unique_ptr<DeviceScope> {
            return std::make_unique<CudaDeviceScope>(index);
          }};
}

}  // namespace efficientad::bindings
