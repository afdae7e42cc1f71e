"""The form of a scheduled program in which its accesses are counted."""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx
from tvm.target import Target

from kernels.lowering import until_compacted


def access_form(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """The program with flat buffers of their final size, explicit indices and guards, vectors and virtual threads
    written out, and loops still rolled (3 to 15 ms): TVM's lowering up to the passes that unroll and share.

    Raises what those passes raise, of which all but RuntimeError and ValueError are errors of this program.
    """
    transform = s_tir.transform
    passes = [
        tirx.transform.BindTarget(target.with_host(Target("llvm"))),
        *until_compacted(),
        transform.LowerAutoCopy(),
        transform.UnifyThreadBinding(),
        transform.LowerMatchBuffer(),
        transform.StmtSimplify(),
        transform.InjectPermutedLayout(),
        transform.AnnotateIrregularLoop(),
        transform.InjectSoftwarePipeline(),
        transform.TransformMmaBufferLayout(),
        transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.NarrowDataType(32),
        tirx.transform.VectorizeLoop(True),
        transform.InjectVirtualThread(),
        tirx.transform.StmtSimplify(),
    ]
    return tvm.ir.transform.Sequential(passes)(module)
