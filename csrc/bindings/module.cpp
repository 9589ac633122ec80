// efficientad_ext._C: the compiled kernels.

#include <pybind11/pybind11.h>

#include "bindings/backend_module.h"
#include "bindings/cuda_target.h"
#include "bindings/plan_module.h"
#include "cpu/backend.h"
#include "cpu/fork.h"

namespace py = pybind11;

namespace efficientad::bindings {
namespace {

void bind_cpu(py::module_& module) {
  const cpu::InstructionSets sets = cpu::instruction_sets();
  py::dict instruction_sets;
  py::object best = py::none();
  for (int index = 0; index < sets.count; ++index) {
    const cpu::InstructionSet& set = sets.entries[index];
    if (!set.supported) continue;
    py::module_ submodule = module.def_submodule(set.name);
    const Target target{set.backend, Device::cpu, host_execution, nullptr};
    bind_backend(submodule, target);
    bind_plan(submodule, target);
    best = submodule;
    instruction_sets[set.name] = submodule;
  }
  module.attr("cpu") = best;
  module.attr("cpu_instruction_sets") = instruction_sets;
}

}  // namespace
}  // namespace efficientad::bindings

PYBIND11_MODULE(_C, module) {
  using namespace efficientad::bindings;
  bind_plan_classes(module);
  bind_cpu(module);
  efficientad::cpu::survive_forks();
  module.attr("cuda") = py::none();
  module.attr("cuda_architectures") = EFFICIENTAD_CUDA_ARCHITECTURES;
  module.attr("cuda_compiler") = EFFICIENTAD_CUDA_COMPILER;
  module.attr("host_compiler") = EFFICIENTAD_HOST_COMPILER;
#if defined(EFFICIENTAD_WITH_CUDA)
  py::module_ cuda = module.def_submodule("cuda_kernels");
  bind_backend(cuda, cuda_target());
  bind_plan(cuda, cuda_target());
  module.attr("cuda") = cuda;
#endif
}
