"""Our own sketch rules, beside those of TVM. Each makes a TVM trace, which is applied and mutated like the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import amx
from kernels.dots import Dot, offered
from kernels.space.attention import schedule_attention
from kernels.space.dots import TILE_RULE, schedule_dot_convolution, schedule_dot_panels, schedule_tile_panels
from kernels.space.loops import schedule_loops
from kernels.space.packed import schedule_packed
from kernels.space.panels import schedule_panels
from kernels.space.rows import schedule_rows
from kernels.space.winograd import schedule_winograd, schedule_winograd_fused
from kernels.workload import Workload

CPU_SKETCH_RULES: Mapping[str, Callable[[Schedule], bool]] = {
    "attention": schedule_attention,
    "loops": schedule_loops,
    "packed": schedule_packed,
    "panels": schedule_panels,
    "rows": schedule_rows,
    "winograd": schedule_winograd,
    "winograd_fused": schedule_winograd_fused,
}
"""Sketch rules by name: each schedules a fresh program, or returns False where the program is not of its kind."""

DOT_SKETCH_RULES: Mapping[str, Callable[[Schedule, Sequence[Dot]], bool]] = {
    "dot_panels": schedule_dot_panels,
    "dot_convolution": schedule_dot_convolution,
}
"""The same for CPUs with dot-product instructions, which are the second argument."""


def rules_of(target: Target) -> Mapping[str, Callable[[Schedule], bool]]:
    """Our sketch rules for a target; on a GPU there are none."""
    if target.kind.name != "llvm":
        return {}
    dots = offered(target)
    by_dots = {name: _with(rule, dots) for name, rule in DOT_SKETCH_RULES.items() if dots}
    tiles = amx.offered(target)
    by_tiles = {TILE_RULE: _with(schedule_tile_panels, tiles)} if tiles else {}
    return {**CPU_SKETCH_RULES, **by_dots, **by_tiles}


def _with(rule: Callable[[Schedule, Any], bool], instructions: Any) -> Callable[[Schedule], bool]:
    return lambda schedule: rule(schedule, instructions)


def own_traces(workload: Workload, target: Target) -> Iterator[tuple[str, Any]]:
    """(name, trace) of each sketch rule that fits the workload on the target."""
    for name, rule in rules_of(target).items():
        schedule = Schedule(workload.module(), seed=1, error_render_level="none")
        try:
            fits = rule(schedule)
        except (RuntimeError, ValueError):  # TVM rejects a step: the program is not of this kind
            continue
        if fits:
            yield name, schedule.trace
