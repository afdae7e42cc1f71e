"""A program as a tree of loops, in a few lines: what a reader looks for first in a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import SBlockRealize

from kernels.lowering import nodes

_KINDS = {
    tirx.ForKind.SERIAL: "",
    tirx.ForKind.PARALLEL: "parallel ",
    tirx.ForKind.VECTORIZED: "vector ",
    tirx.ForKind.UNROLLED: "unrolled ",
}

_UPDATES = {tirx.Max: "max=", tirx.Min: "min=", tirx.Mul: "*="}

_SHOWN = ("pragma_auto_unroll_max_step", "software_pipeline_stage", "software_pipeline_async_stages")
"""Annotations of loops and blocks that say what becomes of them."""


def tree(function: tirx.PrimFunc) -> str:
    """The loops of a scheduled function, two blanks further in for each loop around.

    Serial loops right inside one another share a line, and those of one iteration are left out. A block is a line: what
    it writes, from what it reads; `+=` and the like where it reduces.
    """
    return "\n".join(_lines(function.body, 0))


def _lines(statement: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(statement, tirx.For):
        parts, statement = _loops(statement)
        if parts:
            yield f"{indent}for {', '.join(parts)}"
        yield from _lines(statement, depth + bool(parts))
    elif isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from _lines(part, depth)
    elif isinstance(statement, SBlockRealize):
        yield from _block(statement.block, depth)
    elif isinstance(statement, tirx.IfThenElse):
        yield f"{indent}if {_short(statement.condition)}"
        yield from _lines(statement.then_case, depth + 1)
        if statement.else_case is not None:
            yield f"{indent}else"
            yield from _lines(statement.else_case, depth + 1)
    elif hasattr(statement, "body"):
        yield from _lines(statement.body, depth)
    else:
        yield indent + _store(statement)


def _loops(loop: Any) -> tuple[list[str], Any]:
    """A loop and the serial ones right inside it, and what they enclose."""
    parts = [] if _is_once(loop) else [_loop(loop)]
    body = loop.body
    while loop.kind == tirx.ForKind.SERIAL and _is_plain(body) and not _annotations(loop.annotations):
        parts += [] if _is_once(body) else [_loop(body)]
        loop, body = body, body.body
    return parts, body


def _is_once(loop: Any) -> bool:
    return _is_plain(loop) and _short(loop.extent) == "1" and not _annotations(loop.annotations)


def _is_plain(statement: Any) -> bool:
    return isinstance(statement, tirx.For) and statement.kind == tirx.ForKind.SERIAL


def _loop(loop: Any) -> str:
    kind = _KINDS.get(loop.kind)
    if kind is None:
        binding = loop.thread_binding
        kind = f"{binding.thread_tag if binding is not None else 'bound'} "
    return f"{kind}{loop.loop_var.name} {_short(loop.extent)}{_annotations(loop.annotations)}"


def _annotations(annotations: Any) -> str:
    told = [f"{key.removeprefix('pragma_')}={annotations[key]}" for key in _SHOWN if key in annotations]
    return f" [{', '.join(told)}]" if told else ""


def _block(block: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for buffer in block.alloc_buffers:
        shape = "x".join(_short(extent) for extent in buffer.shape)
        scope = "" if buffer.scope() == "global" else f" in {buffer.scope()} memory"
        yield f"{indent}buffer {buffer.name} {shape} {buffer.dtype}{scope}"
    stores = nodes(block.body, tirx.BufferStore)
    inner = nodes(block.body, SBlockRealize)
    if inner or len(stores) != 1:
        yield from _lines(block.body, depth)
    else:
        yield f"{indent}{_store(stores[0], block.init is not None)}"


def _store(statement: Any, reduces: bool = False) -> str:
    if isinstance(statement, tirx.Bind):
        return f"{statement.var.name} = {_short(statement.value)}"
    if not isinstance(statement, tirx.BufferStore):
        return _short(statement)
    loads = [load.source.name for load in nodes(statement.value, tvm.ir.TensorLoad)]
    others = [name for name in dict.fromkeys(loads) if name != statement.buffer.name]
    updates = statement.buffer.name in loads
    calls = [str(getattr(c.op, "name", "")).rpartition(".")[2] for c in nodes(statement.value, tvm.ir.Call)]
    functions = [name for name in dict.fromkeys(calls) if name]
    told = ", ".join(others) or _short(statement.value)
    becomes = _UPDATES.get(type(statement.value), "+=") if updates or reduces else "="
    return f"{statement.buffer.name} {becomes} {told}{_through(functions)}"


def _through(functions: Sequence[str]) -> str:
    return f" through {', '.join(functions)}" if functions else ""


def _short(expression: Any) -> str:
    if isinstance(expression, tirx.FloatImm):
        return f"{float(expression.value):g}"
    if isinstance(expression, tirx.IntImm):
        return str(int(expression.value))
    text = " ".join(str(expression).replace("T.", "").split())
    return text if len(text) <= 60 else f"{text[:57]}..."
