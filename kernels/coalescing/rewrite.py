"""Which plan a launch gets: the one whose transactions are counted to be the fewest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.access import LaunchAccess, analyze
from kernels.coalescing.nests import Nest, Refused, nests, statements, with_statements
from kernels.coalescing.plans import MOST_STAGED, Plan, apply, plans

_WORTH = 0.9
"""A plan must need at most this part of the transactions: what moves as much is left as it was scheduled."""

_BUDGET = 1 << 14
_COUNTING = Target(
    {"kind": "opencl", "max_threads_per_block": 1024, "max_num_threads": 1024, "max_shared_memory_per_block": 49152,
     "thread_warp_size": 32}
)  # fmt: skip
"""Transactions do not depend on the device; TVM's lowering wants one."""


@dataclass(frozen=True)
class Rewritten:
    """What became of a launch: `plan` in words, or "" and why not. Costs are sectors of global memory and a quarter of
    the passes over shared memory's banks."""

    block: str
    before: float
    after: float
    plan: str = ""
    reason: str = ""


def coalesced(function: tirx.PrimFunc) -> tuple[tirx.PrimFunc, tuple[Rewritten, ...]]:
    """A scheduled program with its launches rewritten where that needs fewer transactions, and what became of each.

    Only launches of one block are, whose iterations are shown to be independent, or a reduction that keeps its order:
    so every element is computed by the same operations in the same order as before.
    """
    made = []
    for number, nest, name in list(nests(function)):
        if isinstance(nest, Refused):
            made.append(Rewritten(name, 0.0, 0.0, reason=str(nest)))
            continue
        function, outcome = _rewritten(function, number, nest)
        made.append(outcome)
    return function, tuple(made)


def _rewritten(function: tirx.PrimFunc, number: int, nest: Nest) -> tuple[tirx.PrimFunc, Rewritten]:
    try:
        natural = with_statements(function, {number: nest.natural()})
        before = _cost(function, number)
    except Refused as error:
        return function, Rewritten(nest.name, 0.0, 0.0, reason=str(error))
    best, lowest, chosen = function, before * _WORTH, ""
    for plan in plans(nest.block, nest.threads):
        planned = _planned(natural, nest.name, plan)
        if planned is None:
            continue
        cost = _cost(planned, number)
        if cost < lowest:
            best, lowest, chosen = planned, cost, plan.to_text()
    if not chosen:
        return function, Rewritten(nest.name, before, before, reason="no plan needs fewer transactions")
    return best, Rewritten(nest.name, before, lowest, chosen)


def _planned(natural: tirx.PrimFunc, name: str, plan: Plan) -> tirx.PrimFunc | None:
    """The program with a plan applied; None where TVM refuses a step of it, or it takes too much shared memory."""
    schedule = Schedule(tvm.IRModule({"main": natural}), error_render_level="none")
    try:
        apply(schedule, name, plan)
        module = schedule.mod
        return module["main"] if _staged_bytes(module) <= MOST_STAGED else None
    except (RuntimeError, ValueError):
        return None


def _staged_bytes(module: tvm.IRModule) -> int:
    return max((launch.shared_bytes for launch in analyze(module, _COUNTING, 1)), default=0)


def _cost(function: tirx.PrimFunc, number: int) -> float:
    """Raises Refused where the program cannot be counted."""
    try:
        found: Sequence[LaunchAccess] = analyze(tvm.IRModule({"main": function}), _COUNTING, _BUDGET)
    except (RuntimeError, ValueError) as error:
        raise Refused("TVM cannot lower it") from error
    if len(found) != len(statements(function)):
        raise Refused("a part of the program is no launch")
    launch = found[number]
    return launch.total("global", "transactions") + launch.total("shared", "transactions") / 4
