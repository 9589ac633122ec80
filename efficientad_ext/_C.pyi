from typing import Any

# Modules of kernels, one function per kernel; see csrc/bindings/backend_module.h.
cpu: Any
cpu_instruction_sets: dict[str, Any]
cuda: Any | None

cuda_architectures: str
cuda_compiler: str
host_compiler: str
