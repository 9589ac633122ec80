// One call of a kernel from Python: its tensors, what they have to satisfy, and its run.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

#include "bindings/backend_module.h"
#include "bindings/tensor.h"

namespace efficientad::bindings {

inline void require(bool condition, const char* sentence) {
  if (!condition) throw pybind11::value_error(sentence);
}

// The tensors of one call: all on the backend's device, all on the same one.
class Call {
 public:
  explicit Call(const Target& target) : target_(target) {}

  Tensor tensor(const pybind11::handle& object) {
    const Tensor result = tensor_from_python(object);
    if (result.device != target_.device) {
      throw pybind11::type_error(target_.device == Device::cpu
                                     ? "expected a tensor in the CPU's memory"
                                     : "expected a tensor on a CUDA device");
    }
    if (device_index_ < 0) device_index_ = result.device_index;
    if (result.device_index != device_index_) {
      throw pybind11::value_error("the tensors of one call are on different devices");
    }
    return result;
  }

  Tensor tensor(const pybind11::handle& object, ScalarType type, std::int64_t elements) {
    const Tensor result = tensor(object);
    if (result.type != type)
      throw pybind11::type_error("a tensor has another element type than expected");
    if (result.elements() != elements) {
      throw pybind11::value_error("a tensor has another number of elements than expected");
    }
    return result;
  }

  // Memory for a kernel to write to or to work in, whatever its type.
  void* memory(const pybind11::handle& object, std::size_t bytes) {
    if (object.is_none()) {
      if (bytes == 0) return nullptr;
      throw pybind11::value_error("the kernel needs a workspace");
    }
    const Tensor result = tensor(object, ScalarType::uint8, static_cast<std::int64_t>(bytes));
    return dense_data(result);
  }

  template <class Problem>
  void run(Kernel<Problem> kernel, const Problem& problem, std::int64_t context) const {
    launch([&](const Execution& execution) { return kernel(problem, execution); }, context);
  }

  // Calls kernels(execution), which returns a Status, on the device of the call's tensors.
  template <class Kernels>
  void launch(const Kernels& kernels, std::int64_t context) const {
    const Execution execution = target_.execution(context);
    Status status;
    {
      const std::unique_ptr<DeviceScope> scope =
          target_.enter_device != nullptr ? target_.enter_device(device_index_) : nullptr;
      pybind11::gil_scoped_release release;
      status = kernels(execution);
    }
    if (status != kOk) throw std::runtime_error(status);
  }

 private:
  const Target& target_;
  int device_index_ = -1;
};

inline ScalarType accumulator_type(ScalarType type) {
  return type == ScalarType::float64 ? ScalarType::float64 : ScalarType::float32;
}

using Axis = std::pair<double, double>;  // step, start

inline ResamplingAxis resampling_axis(const Axis& axis) {
  require(std::isfinite(axis.first) && std::isfinite(axis.second),
          "a resampling axis is not finite");
  return {axis.first, axis.second};
}

}  // namespace efficientad::bindings
