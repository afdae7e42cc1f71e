"""Whether the asynchronous copies of a tile have arrived when it ends: the next tile writes to the same shared memory."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import SBlock, SBlockRealize

from kernels.lowering import nodes
from kernels.persistent.launches import Launch, Refused

_ASYNC = "software_pipeline_async_stages"
_COMMIT, _WAIT, _IN_FLIGHT = "async_commit_queue_scope", "async_wait_queue_scope", "async_wait_inflight_count"


def check_arrived(launch: Launch) -> None:
    """Raises Refused where the tile may end before the copies of its pipelined loops have arrived.

    Looked at are the loops as TVM writes them out: what is committed last, a wait until nothing is in flight follows.
    """
    if not any(_ASYNC in loop.annotations for loop in nodes(launch.body, tirx.For)):
        return
    root = SBlock([], [], [], "root", launch.grid[0])
    function = tirx.PrimFunc([], SBlockRealize([], True, root))
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
    except (RuntimeError, ValueError) as error:
        raise Refused("its pipelined loop cannot be written out") from error
    if not _drained(written.body):
        raise Refused("it may end before its asynchronous copies have arrived")


def _drained(statement: Any) -> bool:
    """Whether the last mark in the order of execution is a wait for all."""
    marks: list[bool] = []
    _marks(statement, marks)
    return not marks or marks[-1]


def _marks(statement: Any, marks: list[bool]) -> None:
    """False for each commit, True for each wait until nothing is in flight, in order; other waits are left out."""
    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            _marks(part, marks)
    elif isinstance(statement, SBlockRealize):
        _marks(statement.block.body, marks)
    elif isinstance(statement, tirx.AttrStmt):
        key = str(statement.attr_key)
        if key == _IN_FLIGHT and isinstance(statement.value, tirx.IntImm) and int(statement.value) == 0:
            marks.append(True)
        _marks(statement.body, marks)
        if key == _COMMIT:
            marks.append(False)
    elif isinstance(statement, tirx.IfThenElse):
        _marks(statement.then_case, marks)
        if statement.else_case is not None:
            _marks(statement.else_case, marks)
    elif hasattr(statement, "body"):
        _marks(statement.body, marks)
