// A backend's kernels as functions of a Python module.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>

#include "bindings/tensor.h"
#include "efficientad/backend.h"

namespace efficientad::bindings {

// Makes a device current for as long as it lives.
class DeviceScope {
 public:
  virtual ~DeviceScope() = default;
};

// Where a backend's tensors live and how its kernels are run there.
struct Target {
  const Backend* backend;
  Device device;
  // Interprets the number that Python passes with every call: threads, or a stream.
  Execution (*execution)(std::int64_t context);
  // Makes the device of a call current; nullptr where there is nothing to do.
  std::unique_ptr<DeviceScope> (*enter_device)(int index);
};

// Adds one function per kernel: NAME(context, tensors and numbers..., outputs...). Inputs have been
// checked and outputs allocated by the caller; what is checked here again is what would otherwise
// read or write outside a tensor.
void bind_backend(pybind11::module_& module, const Target& target);

// Both CPU backends and emulated ones run where the host's memory is.
Execution host_execution(std::int64_t context);

}  // namespace efficientad::bindings
