"""Split-K on a GPU: a reduction is divided among thread blocks where its results alone would not fill the device.

Each part is summed in an order of its own into a buffer between two launches; the second launch adds the parts in their
order. No atomics: the same bits every time. TVM's rules tile the first launch like any other program.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.coalescing import reuses
from kernels.gpus import gpu_of
from kernels.space.data import Knob
from kernels.space.plain import plain
from kernels.workload import Workload

RULE = "split_k"

_TILE = 64 * 64
"""Results of a thread block at which products usually are fastest."""

_MOST_PARTS = 32
_LEAST_DEPTH = 32
"""Steps of a part's reduction, at least: fewer do not pay for writing and reading its results."""

_SPATIAL, _REDUCE = 0, 2


@dataclass(frozen=True)
class Divided:
    """A program whose reduction is divided into `parts`, and the steps of the trace that did it, as JSON."""

    module: tvm.IRModule
    parts: int
    steps: tuple[Any, ...]

    def prefixed(self, instructions: Sequence[Any], decisions: Sequence[Any]) -> str:
        """The trace of a sketch of `module` as one of the undivided program."""
        moved = [[number + len(self.steps), decision] for number, decision in decisions]
        return json.dumps([[*self.steps, *instructions], moved])

    def knobs(self, knobs: Sequence[Knob]) -> tuple[Knob, ...]:
        """Those of a sketch of `module` in that trace; a thread block has one part."""
        fixed = next((n for n, knob in enumerate(knobs) if knob.role == "spatial" and knob.extent == self.parts), -1)
        return tuple(
            Knob(knob.role, self._one_part(knob) if n == fixed else knob.choices, knob.instruction + len(self.steps))
            for n, knob in enumerate(knobs)
        )

    def _one_part(self, knob: Knob) -> tuple[Any, ...]:
        return ((self.parts, *(1 for _ in range(knob.num_factors - 1))),)


def divided(workload: Workload, target: Target, modelled_as: str) -> Iterator[Divided]:
    """The ways to divide the reduction of a program that has one which reads elements for several results."""
    module = workload.module()
    if not reuses(module["main"]):
        return
    multiprocessors = gpu_of(str(target.attrs.get("arch", modelled_as))).multiprocessors
    for parts in part_counts(*_extents(module), multiprocessors):
        made = _divided(module, parts)
        if made is not None:
            yield made


def part_counts(results: int, first: int, depth: int, multiprocessors: int) -> tuple[int, ...]:
    """Into how many parts a reduction of `depth` steps, whose first loop has `first`, is worth dividing: as many as
    fill the multiprocessors, and about a quarter of that."""
    most = min(multiprocessors // max(-(-results // _TILE), 1), _MOST_PARTS, depth // _LEAST_DEPTH)
    divisors = [n for n in range(2, most + 1) if first % n == 0]
    if not divisors:
        return ()
    fewer = [n for n in divisors if n <= divisors[-1] // 4]
    return tuple(dict.fromkeys([divisors[-1], *fewer[-1:]]))


def _reduction(schedule: Schedule) -> Any:
    """The only block of a program that reduces; None where there is none or more than one."""
    every = schedule.get_child_blocks(schedule.get_sblock("root"))
    found = [b for b in every if any(int(v.iter_type) == _REDUCE for v in schedule.get(b).iter_vars)]
    return found[0] if len(found) == 1 else None


def _kinds(schedule: Schedule, block: Any) -> list[tuple[int, int]]:
    return [(int(v.iter_type), int(v.dom.extent)) for v in schedule.get(block).iter_vars]


def _extents(module: tvm.IRModule) -> tuple[int, int, int]:
    """The results of the reduction, the steps of its first loop, and those of all its loops; zeros without one."""
    schedule = Schedule(module)
    block = _reduction(schedule)
    if block is None:
        return 0, 0, 0
    kinds = _kinds(schedule, block)
    reduce = [extent for kind, extent in kinds if kind == _REDUCE]
    return math.prod(extent for kind, extent in kinds if kind == _SPATIAL), reduce[0], math.prod(reduce)


def _divided(module: tvm.IRModule, parts: int) -> Divided | None:
    schedule = Schedule(module, seed=1, error_render_level="none")
    try:
        block = _reduction(schedule)
        loops, kinds = schedule.get_loops(block), _kinds(schedule, block)
        if len(loops) != len(kinds):
            return None
        spatial = [loop for loop, (kind, _) in zip(loops, kinds, strict=True) if kind == _SPATIAL]
        first, *rest = [loop for loop, (kind, _) in zip(loops, kinds, strict=True) if kind == _REDUCE]
        part, inner = schedule.split(first, [parts, None])
        schedule.reorder(part, *spatial, inner, *rest)
        schedule.rfactor(part, 0)
        outermost, *others = schedule.get_loops(block)
        schedule.reorder(*others, outermost)
    except (RuntimeError, ValueError):  # TVM rejects a step: the program is not of this kind
        return None
    instructions, _ = json.loads(json.dumps(plain(schedule.trace.as_json())))
    return Divided(schedule.mod, parts, tuple(_renamed(instructions)))


def _renamed(instructions: Sequence[Any]) -> Iterator[Any]:
    """Steps with other names for their blocks and loops than a trace that follows them has."""
    names: Mapping[str, str] = {name: f"split_{name}" for *_, made in instructions for name in made}

    def other(value: Any) -> Any:
        if isinstance(value, list):
            return [other(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    for kind, inputs, attributes, made in instructions:
        yield [kind, other(inputs), attributes, other(made)]
