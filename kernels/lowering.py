"""What TVM makes of a scheduled program before it is handed to a code generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.instrument import pass_instrument
from tvm.target import Target

from kernels.launch_plan import ITEM_BYTES

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


def lowered(function: tirx.PrimFunc, target: Target, options: Mapping[str, Any]) -> tirx.PrimFunc:
    """A scheduled function after TVM's lowering (10 to 60 ms): flat buffers, vectors, loops unrolled, repeated
    subexpressions bound.

    `options` are those of the PassContext. Raises RuntimeError or ValueError where TVM rejects the program.
    """
    before = _Before()
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    bound = tirx.transform.BindTarget(target if target.host else target.with_host(Target("llvm")))
    pipeline, *_ = tirx.get_default_tir_pipeline(target)
    with tvm.transform.PassContext(opt_level=3, config=dict(options), instruments=[before]):
        pipeline(bound(module))
    if before.module is None:
        raise RuntimeError(f"TVM's lowering has no {_LAST}")
    return before.module["main"]


def nodes(tree: Any, kind: Any) -> list[Any]:
    """The nodes of a type (a statement's or an expression's) in a statement or expression, in its order."""
    found: list[Any] = []
    tvm_ffi.structural_walk(tree, (kind, found.append))
    return found


def buffer_bytes(function: tirx.PrimFunc) -> int:
    """The bytes of the intermediate buffers of a lowered function."""
    buffers = [allocation.buffer for allocation in nodes(function.body, tirx.AllocBuffer)]
    return sum(math.prod(map(int, b.shape)) * ITEM_BYTES[str(b.dtype)] for b in buffers)
