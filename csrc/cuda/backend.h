// The CUDA backend: pointers are device memory, work goes to the execution's stream.
#pragma once

#include "efficientad/backend.h"

namespace efficientad::cuda {

const Backend& backend();

}  // namespace efficientad::cuda
