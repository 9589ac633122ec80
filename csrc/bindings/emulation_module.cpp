// efficientad_ext._emulation: kernels on emulated hardware, for tests without it: the CUDA kernels
// on a GPU, and in `amx` the CPU's convolutions on AMX tiles.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "bindings/backend_module.h"
#include "bindings/plan_module.h"
#include "cuda/backend.h"
#include "emulation/amx_backend.h"
#include "emulation/launch.h"
#include "emulation/self_test/self_test.h"

namespace py = pybind11;

PYBIND11_MODULE(_emulation, module) {
  using namespace efficientad;
  const bindings::Target target{&cuda::backend(), bindings::Device::cpu, bindings::host_execution,
                                nullptr};
  bindings::bind_backend(module, target);
  bindings::bind_plan_classes(module);
  bindings::bind_plan(module, target);
  py::module_ amx = module.def_submodule("amx");
  const bindings::Target on_tiles{&emulation::amx_backend(), bindings::Device::cpu,
                                  bindings::host_execution, nullptr};
  bindings::bind_backend(amx, on_tiles);
  bindings::bind_plan(amx, on_tiles);
  module.def(
      "set_seed", [](std::uint64_t seed) { emulation::set_seed(seed); },
      "Choose the order in which blocks and threads run.");
  module.def("set_compute_capability", &emulation::set_compute_capability,
             "Choose the emulated GPU's compute capability, such as 80 or 90.");
  module.attr("multiprocessors") = emulation::device_properties().multiprocessors;
  module.def("take_largest_shared_bytes", &emulation::take_largest_shared_bytes,
             "The most shared memory that a block was launched with since this was asked last.");
  module.def(
      "self_test",
      [](const std::string& subject, const std::string& fault) {
        const Status status = cuda::emulation_self_test(subject.c_str(), fault.c_str());
        if (status != kOk) throw std::runtime_error(status);
      },
      "Run the kernel of a subject with a planted fault; raises RuntimeError with what the "
      "emulation found.");
}
