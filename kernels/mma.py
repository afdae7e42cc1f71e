"""Tensor cores by `mma.sync` and `ldmatrix` in place of wmma: which programs can, and the CUDA source that does.

wmma says of a fragment only that it exists, so the compiler decides which lane reads what of shared memory.
`warp_mma.cuh` has the part of wmma that TVM's sources use, in the layouts of the PTX ISA: every lane's address is
known, can be counted, and can be moved (`swizzle`).
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.target import Target

from kernels.access import FRAGMENTS
from kernels.gpus import sm_number
from kernels.lowering import nodes

LEAST_SM = 80
"""The first architecture with `mma.sync` of m16n8k16."""

OPERANDS = ("float16", "bfloat16", "int8")

_WMMA = "nvcuda::wmma::"
KERNEL = re.compile(r'^extern "C" __global__', re.MULTILINE)
"""Where the first kernel of a source begins, or its declaration."""


def marked(function: tirx.PrimFunc) -> bool:
    """Whether a scheduled function is to be emitted with `mma.sync`."""
    return FRAGMENTS in (function.attrs or {})


def why_not(function: tirx.PrimFunc, target: Target) -> str:
    """Why a scheduled program cannot be emitted so; "" where it can."""
    arch = str(target.attrs.get("arch", ""))
    if target.kind.name != "cuda" or sm_number(arch) < LEAST_SM:
        return f"mma.sync of m16n8k16 needs sm_{LEAST_SM}, and this is {arch or target.kind.name}"
    operands = {str(buffer.dtype) for buffer in _fragments(function) if not str(buffer.scope()).endswith("accumulator")}
    if not operands:
        return "it computes nothing on tensor cores"
    other = operands - set(OPERANDS)
    return f"no such fragments for {', '.join(sorted(other))}" if other else ""


def in_mma(source: str) -> str:
    """CUDA source with wmma in the words of `warp_mma`."""
    first = KERNEL.search(source)
    if first is None or _WMMA not in source:
        return source
    text = source.replace(_WMMA, "warp_mma::")
    return text[: first.start()] + header() + text[first.start() :]


@functools.cache
def header() -> str:
    """The device code of `warp_mma`."""
    return (Path(__file__).parent / "warp_mma.cuh").read_text("utf-8")


def _fragments(function: tirx.PrimFunc) -> list[Any]:
    """The buffers of a scheduled program that are fragments of wmma."""
    from tvm.s_tir import SBlock

    allocated = [buffer for block in nodes(function.body, SBlock) for buffer in block.alloc_buffers]
    return [buffer for buffer in allocated if str(buffer.scope()).startswith("wmma.")]


def with_mark(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function, to be emitted with `mma.sync`."""
    return function.with_attr(FRAGMENTS, tvm.tirx.IntImm("int32", 1))
