"""Which plan a launch gets: the one whose transactions are counted to be the fewest."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from kernels.access import LaunchAccess, counted
from kernels.coalescing.nests import Nest, Refused, nests, statements, with_statements
from kernels.coalescing.plans import MOST_STAGED, Plan, apply, plans

_WORTH = 0.9
"""A plan must need at most this part of the transactions: what moves as much is left as it was scheduled."""

_BUDGET = 1 << 14
NOTHING_FEWER = "no plan needs fewer transactions"
"""The reason of a launch that could be rewritten and is not worth it."""


@dataclass(frozen=True)
class Rewritten:
    """What became of a launch: `plan` in words, or "" and why not. Costs are sectors of global memory and a quarter of
    the passes over shared memory's banks."""

    block: str
    before: float
    after: float
    plan: str = ""
    reason: str = ""


@functools.lru_cache(maxsize=8)
def coalesced(function: tirx.PrimFunc) -> tuple[tirx.PrimFunc, tuple[Rewritten, ...]]:
    """A scheduled program with its launches rewritten where that needs fewer transactions, and what became of each.

    Only launches of one block are, whose iterations are shown to be independent, or a reduction that keeps its order:
    so every element is computed by the same operations in the same order as before. The last few programs are kept: a
    candidate's features, its refusal and its build ask for the same one.
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
        if math.isinf(before):
            raise Refused("TVM cannot lower it, or it stages much already")
    except Refused as error:
        return function, Rewritten(nest.name, 0.0, 0.0, reason=str(error))
    best, lowest, chosen = function, before * _WORTH, ""
    for plan in plans(nest.block, nest.threads):
        planned = _planned(natural, nest.name, plan)
        cost = math.inf if planned is None else _cost(planned, number)
        if planned is not None and cost < lowest:
            best, lowest, chosen = planned, cost, plan.to_text()
    if not chosen:
        return function, Rewritten(nest.name, before, before, reason=NOTHING_FEWER)
    return best, Rewritten(nest.name, before, lowest, chosen)


def _planned(natural: tirx.PrimFunc, name: str, plan: Plan) -> tirx.PrimFunc | None:
    """The program with a plan applied; None where TVM refuses a step of it."""
    schedule = Schedule(tvm.IRModule({"main": natural}), error_render_level="none")
    try:
        apply(schedule, name, plan)
    except (RuntimeError, ValueError):
        return None
    return schedule.mod["main"]


def _cost(function: tirx.PrimFunc, number: int) -> float:
    """The cost of a launch; infinite where it takes too much shared memory, or TVM cannot lower it after all.

    Raises Refused where the program is not made of launches alone.
    """
    try:
        found: Sequence[LaunchAccess] = counted(function, _BUDGET)
    except (RuntimeError, ValueError):
        return math.inf
    if len(found) != len(statements(function)):
        raise Refused("a part of the program is no launch")
    launch = found[number]
    if launch.shared_bytes > MOST_STAGED:
        return math.inf
    return launch.total("global", "transactions") + launch.total("shared", "transactions") / 4
