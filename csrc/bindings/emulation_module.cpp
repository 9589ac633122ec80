// efficientad_ext._emulation: the CUDA kernels run by an emulated GPU, for tests without one.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "bindings/backend_module.h"
#include "cuda/backend.h"
#include "emulation/launch.h"
#include "emulation/self_test.h"

namespace py = pybind11;

PYBIND11_MODULE(_emulation, module) {
  using namespace efficientad;
  bindings::bind_backend(
      module, {&cuda::backend(), bindings::Device::cpu, bindings::host_execution, nullptr});
  module.def(
      "set_seed", [](std::uint64_t seed) { emulation::set_seed(seed); },
      "Choose the order in which blocks and threads run.");
  module.def(
      "self_test",
      [](const std::string& fault) {
        const Status status = cuda::emulation_self_test(fault.c_str());
        if (status != kOk) throw std::runtime_error(status);
      },
      "Run a kernel with a planted fault; raises RuntimeError with what the emulation found.");
}
