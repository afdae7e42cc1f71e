"""The accesses of a whole program, and what a cost model learns of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tvm
from tvm import tirx
from tvm.target import Target

from kernels.access.counting import BUDGET, count
from kernels.access.counts import LaunchAccess
from kernels.access.lowering import access_form
from kernels.access.nests import Launch, Unbound, launches

FEATURE_NAMES = ("requests", "sectors", "coalesced", "bank_passes", "bank_free", "known")
"""The numbers of `features`. The names are stored with features, so they never change their meaning."""


def analyze(module: tvm.IRModule, target: Target, budget: int = BUDGET) -> tuple[LaunchAccess, ...]:
    """The accesses of each launch of the scheduled function `main`. `budget`: see `counting.count`.

    Raises Unbound where no loop is bound to threads, and RuntimeError or ValueError where TVM rejects the program.
    """
    return tuple(_of(launch, budget) for launch in launches(access_form(module, target)["main"]))


_ANY = Target(
    {"kind": "opencl", "max_threads_per_block": 1024, "max_num_threads": 1024, "max_shared_memory_per_block": 49152,
     "thread_warp_size": 32}
)  # fmt: skip


def counted(function: tirx.PrimFunc, budget: int) -> tuple[LaunchAccess, ...]:
    """`analyze` for no device in particular: what warps ask for does not depend on it, but TVM's lowering wants one."""
    return analyze(tvm.IRModule({"main": function}), _ANY, budget)


def counted_in_chunks(
    function: tirx.PrimFunc, budget: int, granules: Sequence[int]
) -> dict[int, tuple[LaunchAccess, ...]]:
    """`counted` for shared memory that is swizzled in chunks of so many bytes, by them; 0 is not swizzled."""
    found = launches(access_form(tvm.IRModule({"main": function}), _ANY)["main"])
    return {granule: tuple(_of(_in_chunks(launch, granule), budget) for launch in found) for granule in granules}


def _in_chunks(launch: Launch, granule: int) -> Launch:
    touches = [replace(touch, granule=granule if touch.scope == "shared" else 0) for touch in launch.touches]
    return replace(launch, touches=touches)


def total(function: tirx.PrimFunc, target: Target, scope: str, name: str) -> float:
    """A number of all accesses to a kind of memory, of all launches; 0 where no loop is bound to threads."""
    try:
        return float(_sum(analyze(tvm.IRModule({"main": function}), target), scope, name))
    except Unbound:
        return 0.0


def _of(launch: Launch, budget: int) -> LaunchAccess:
    grid = math.prod(extent for _, extent in launch.blocks.values())
    threads = math.prod(extent for _, extent in launch.threads.values())
    accesses = tuple(count(launch, touch, budget) for touch in launch.touches)
    return LaunchAccess(grid, threads, accesses, launch.opaque, launch.shared_bytes)


_FEATURE_BUDGET = 1 << 14
"""Features are taken of every candidate: 5 to 20 ms."""


def features(module: tvm.IRModule, target: Target) -> tuple[float, ...]:
    """The numbers of FEATURE_NAMES of a scheduled program; all 0 where nothing can be counted.

    log2 of the requests and of the sectors of global memory + 1; the part of the sectors that would hold the same
    bytes; log2 of the passes over the banks of shared memory + 1; the part of them that would do without a conflict;
    1 where the counts are exact, 0.5 where they are estimates.
    """
    try:
        found = analyze(module, target, _FEATURE_BUDGET)
    except (Unbound, RuntimeError, ValueError):
        return (0.0,) * len(FEATURE_NAMES)
    sectors, least = (_sum(found, "global", name) for name in ("transactions", "least"))
    passes, free = (_sum(found, "shared", name) for name in ("transactions", "least"))
    return (
        math.log2(_sum(found, "global", "requests") + 1),
        math.log2(sectors + 1),
        least / max(sectors, 1),
        math.log2(passes + 1),
        free / max(passes, 1),
        1.0 if all(launch.exact for launch in found) else 0.5,
    )


def counters(module: tvm.IRModule, target: Target) -> list[dict[str, Any]]:
    """What stands on the artifact of a scheduled program: `LaunchAccess.to_json` of each launch without its accesses;
    nothing where they cannot be counted."""
    try:
        found = analyze(module, target)
    except (Unbound, RuntimeError, ValueError):
        return []
    return [{name: value for name, value in launch.to_json().items() if name != "accesses"} for launch in found]


def _sum(found: Sequence[LaunchAccess], scope: str, name: str) -> int:
    return sum(launch.total(scope, name) for launch in found)
