from typing import Any

from torch import Tensor

# Modules of kernels, one function per kernel; see csrc/bindings/backend_module.h. Each one also has
# pack_weights(...) -> tuple[Weights, bytearray], weight_layout(type) -> tuple[int, int] and
# plan(...) -> Plan; see csrc/bindings/plan_module.h.
cpu: Any
cpu_instruction_sets: dict[str, Any]
cuda: Any | None

cuda_architectures: str
cuda_compiler: str
host_compiler: str

plan_alignment: int

class Weights: ...

class Plan:
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def planes(self) -> int: ...
    @property
    def local_planes(self) -> int: ...
    @property
    def global_planes(self) -> int: ...
    @property
    def features(self) -> int: ...
    def run(
        self, context: int, phase: str, weights: Tensor, workspace: Tensor, image: Tensor | None, /
    ) -> None: ...
    def combine(
        self,
        context: int,
        workspace: Tensor,
        local_quantiles: tuple[float, float],
        global_quantiles: tuple[float, float],
        rows: tuple[float, float],
        columns: tuple[float, float],
        combined: Tensor,
        score: Tensor,
        /,
    ) -> None: ...
