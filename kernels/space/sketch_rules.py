"""Sketches of our own, beside those of TVM's rules. Each is a TVM trace, so it replays and mutates like the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.space.packed import schedule_packed
from kernels.space.rows import schedule_rows
from kernels.workload import Workload

CPU_SKETCH_RULES: Mapping[str, Callable[[Schedule], bool]] = {
    "packed": schedule_packed,
    "rows": schedule_rows,
}
"""Sketch rules by name: each schedules a fresh program, or answers False where the program is not of its kind."""


def own_traces(workload: Workload, target: Target) -> Iterator[tuple[str, Any]]:
    """(rule, trace) of each recipe that fits the workload on the target."""
    for rule, model_spec in (CPU_SKETCH_RULES if target.kind.name == "llvm" else {}).items():
        schedule = Schedule(workload.module(), seed=1, error_render_level="none")
        try:
            fits = model_spec(schedule)
        except (RuntimeError, ValueError):  # TVM's scheduler refuses a step: the program is not of this kind after all
            continue
        if fits:
            yield rule, schedule.trace
