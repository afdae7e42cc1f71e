"""What TVM makes of a scheduled program before it is handed to a code generator."""

from __future__ import annotations

import math
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir.instrument import pass_instrument
from tvm.target import Target

_LAST = "tirx.SplitHostDevice"
"""The pass before which a program is still one function with its arguments; it splits it into the host's part and the
device's."""


@pass_instrument
class _Before:
    """Keeps the module as it is before a pass."""

    def __init__(self) -> None:
        self.module: tvm.IRModule | None = None

    def run_before_pass(self, module: tvm.IRModule, info: Any) -> None:
        if info.name == _LAST and self.module is None:
            self.module = module


def lowered(function: tirx.PrimFunc, target: Target) -> tvm.IRModule:
    """A scheduled function after TVM's lowering (10 to 60 ms): flat buffers, vectors, loops unrolled, repeated
    subexpressions bound. On a GPU each kernel is a function of its own, beside `main`, which launches them.

    Under the options of the current PassContext. Raises RuntimeError or ValueError where TVM rejects the program.
    """
    before = _Before()
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    bound = tirx.transform.BindTarget(target if target.host else target.with_host(Target("llvm")))
    pipeline, *_ = tirx.get_default_tir_pipeline(target)
    with tvm.transform.PassContext(
        opt_level=3, config=dict(tvm.transform.PassContext.current().config), instruments=[before]
    ):
        pipeline(bound(module))
    if before.module is None:
        raise RuntimeError(f"TVM's lowering has no {_LAST}")
    return before.module


def until_compacted() -> list[Any]:
    """TVM's own lowering of a scheduled program up to where buffers have their final size, as passes."""
    transform = s_tir.transform
    return [
        transform.CanonicalizeLoop(),
        transform.LowerCrossThreadReduction(),
        transform.LowerInitBlock(),
        transform.PlanAndUpdateBufferAllocationLocation(),
        transform.ConvertBlocksToOpaque(),
        transform.LiftThreadBinding(),
        transform.ManifestSharedMemoryLocalStage(),
        transform.CompactBufferAllocation(),
    ]


def nodes(tree: Any, kind: Any) -> list[Any]:
    """The nodes of a type (a statement's or an expression's) in a statement, an expression or a module, inner ones
    first."""
    found: list[Any] = []
    for part in (f.body for f in tree.functions.values()) if isinstance(tree, tvm.IRModule) else (tree,):
        tvm_ffi.structural_walk(part, (kind, found.append))
    return found


def buffer_bytes(program: tvm.IRModule, scope: str = "") -> int:
    """The bytes of the intermediate buffers of a lowered program, in memory of a scope that begins so."""
    allocated = [allocation.buffer for allocation in nodes(program, tirx.AllocBuffer)]
    return sum(nbytes(buffer) for buffer in allocated if str(buffer.scope()).startswith(scope))


def nbytes(buffer: Any) -> int:
    """The bytes of a buffer of fixed extents."""
    return math.prod(map(int, buffer.shape)) * int(tvm.DataType(str(buffer.dtype)).itemsize)
