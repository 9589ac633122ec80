// The engine's plan as classes and functions of a Python module.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/backend_module.h"

namespace efficientad::bindings {

// The classes Weights and Plan. They belong to one extension module, and so do their instances.
void bind_plan_classes(pybind11::module_& module);

// pack_weights(...) -> (Weights, bytes) and plan(...) -> Plan, for this backend.
void bind_plan(pybind11::module_& module, const Target& target);

}  // namespace efficientad::bindings
