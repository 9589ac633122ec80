// The CPU kernels with convolutions on emulated AMX tiles (cpu/tiles.h).
#pragma once

#include "efficientad/backend.h"

namespace efficientad::emulation {

const Backend& amx_backend();

}  // namespace efficientad::emulation
