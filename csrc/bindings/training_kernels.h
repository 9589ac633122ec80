// The kernels that a training's convolutions run beside those of the engine, as functions of a
// Python module.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/backend_module.h"

namespace efficientad::bindings {

// Adds a function for each of them that the backend has, as bind_backend does for the others.
void bind_training_kernels(pybind11::module_& module, const Target& target);

}  // namespace efficientad::bindings
