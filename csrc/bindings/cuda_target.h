// How Python's calls reach the CUDA backend.
#pragma once

#include "bindings/backend_module.h"

namespace efficientad::bindings {

Target cuda_target();

}  // namespace efficientad::bindings
