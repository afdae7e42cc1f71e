"""The CUDA source and launch plan of a few candidates, emitted without a GPU.

A change of the emitter, of a pass or of the design space shows here as a difference of source text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kernels import emit_gpu
from kernels.space import Candidate, TraceApplier, generate
from kernels.workload import from_prim_func
from tests.kernels.gpu_workloads import gpu, matmul, softmax

CANDIDATES = {
    "matmul": (matmul(64, 64, 64), '[0,[[8,1,1,4,2],[2,1,32,1,1],[16,2,2],1,3],""]'),
    "softmax": (softmax(16, 256), '[3,[7,7],""]'),
    "tensor_cores": (matmul(64, 64, 64, "float16"), '[3,[[1,2,2,1,1],[4,1,1,1,1],[1,1,4],2,3,1],""]'),
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_emitted_source(name: str, golden: Callable[[str, str], None]) -> None:
    func, text = CANDIDATES[name]
    target, workload = gpu("sm_80"), from_prim_func(func, name)
    candidate = Candidate.from_text(text)
    applier = TraceApplier(workload, generate(workload, target), target)
    program = emit_gpu.emit(applier.apply(candidate).mod, target)
    assert ("wmma" in program.source or "mma.sync" in program.source) == (name == "tensor_cores")
    golden(f"cuda/{name}.cu", f"// {text}\n{launches(program.plan.to_json())}\n{program.source}")


def launches(plan: Any) -> str:
    """The launch plan as a comment, one line for each of its fields."""
    return "\n".join(f"// {key}: {json.dumps(value)}" for key, value in plan.items())
