"""Whether the asynchronous copies of a tile have arrived when it ends: the next one writes the same shared memory."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import SBlockRealize

from kernels.lowering import nodes

_ASYNC = "software_pipeline_async_stages"
_COMMIT, _IN_FLIGHT = "async_commit_queue_scope", "async_wait_inflight_count"


def arrived(function: tirx.PrimFunc) -> bool:
    """Whether in each launch of a function in the form of `launches.opaque` all copies have arrived when a tile ends.

    Looked at are the pipelined loops as TVM writes them out: a wait until nothing is in flight follows what was
    committed last, under no condition.
    """
    if not any(_ASYNC in loop.annotations for loop in nodes(function.body, tirx.For)):
        return True
    passes = tvm.ir.transform.Sequential(
        [
            s_tir.transform.UnifyThreadBinding(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.InjectSoftwarePipeline(),
        ]
    )
    try:
        written = passes(tvm.IRModule({"main": function}))["main"]
    except (RuntimeError, ValueError):  # it cannot be written out
        return False
    return all(_drained(launch) for launch in _launches(written.body))


def _launches(statement: Any) -> list[Any]:
    """The outermost statements that are executed by threads."""
    if isinstance(statement, tirx.AttrStmt) and str(statement.attr_key) == "thread_extent":
        return [statement]
    if isinstance(statement, tirx.SeqStmt):
        return [launch for part in statement.seq for launch in _launches(part)]
    body = statement.block.body if isinstance(statement, SBlockRealize) else getattr(statement, "body", None)
    return [] if body is None else _launches(body)


def _drained(launch: Any) -> bool:
    marks: list[bool] = []
    _marks(launch, marks, certain=True)
    return not marks or marks[-1]


def _marks(statement: Any, marks: list[bool], certain: bool) -> None:
    """False for each commit, True for each wait until nothing is in flight, in order; other waits are left out."""
    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            _marks(part, marks, certain)
    elif isinstance(statement, SBlockRealize):
        _marks(statement.block.body, marks, certain)
    elif isinstance(statement, tirx.IfThenElse):
        for case in (statement.then_case, statement.else_case):
            if case is not None:
                _marks(case, marks, certain=False)
    elif hasattr(statement, "body"):
        key = str(statement.attr_key) if isinstance(statement, tirx.AttrStmt) else ""
        if key == _IN_FLIGHT and certain and isinstance(statement.value, tirx.IntImm) and int(statement.value) == 0:
            marks.append(True)
        _marks(statement.body, marks, certain)
        if key == _COMMIT:
            marks.append(False)
