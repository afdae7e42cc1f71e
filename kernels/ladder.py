"""How a kernel came about: a ladder from the unscheduled program to a candidate, each rung a program of its own.

The rungs are candidates of a space of their own, whose sketches are beginnings of the candidate's trace: what builds
and measures candidates builds and measures them, too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm.target import Target

from kernels.passes import PASSES, Applied
from kernels.space import Candidate, DesignSpace, InvalidCandidate, TraceApplier
from kernels.space.data import Sketch
from kernels.workload import Workload

_KINDS = {
    "Split": "tile", "Reorder": "tile", "Fuse": "tile", "Merge": "tile", "AddUnitLoop": "tile",
    "SamplePerfectTile": "tile", "LoopPartition": "tile",
    "ComputeAt": "compute at", "ReverseComputeAt": "compute at", "ComputeInline": "inline",
    "ReverseComputeInline": "inline", "SampleComputeLocation": "compute at",
    "CacheRead": "cache", "CacheWrite": "cache", "ReindexCacheRead": "cache", "ReIndex": "cache", "SetScope": "cache",
    "TransformLayout": "pack", "PadEinsum": "pack", "TransformBlockLayout": "pack",
    "RFactor": "split reduction", "DecomposeReduction": "split reduction", "DecomposePadding": "split reduction",
    "Parallel": "parallel", "Vectorize": "vectorize", "Unroll": "unroll", "Bind": "bind",
    "Tensorize": "tensorize", "Blockize": "tensorize",
}  # fmt: skip
"""What an instruction of a trace is for; others go with the next."""

_ANNOTATIONS = {
    "meta_schedule.parallel": "parallel", "meta_schedule.vectorize": "vectorize",
    "meta_schedule.unroll_explicit": "unroll", "meta_schedule.unroll_implicit": "unroll",
    "meta_schedule.auto_tensorize": "tensorize",
}  # fmt: skip

_WORDS = {
    "tile": "loops are cut into tiles and put in order",
    "compute at": "stages are computed where they are used",
    "inline": "stages are computed inside others",
    "cache": "operands or results have a buffer of their own",
    "pack": "data is stored in the order in which it is read",
    "split reduction": "reductions are cut in parts, or their beginning is apart",
    "parallel": "outer loops are divided among the threads",
    "vectorize": "innermost loops are vectors",
    "unroll": "short loops are written out",
    "bind": "loops are blocks and threads of the GPU",
    "tensorize": "inner loops are one instruction",
    "schedule": "all of the schedule",
}

MOST_RUNGS = 10
"""Of a trace; rungs that only tile go with the next where there are more."""


@dataclass(frozen=True)
class Rung:
    """A step of the ladder, what was done in words, and the program up to it, with the passes applied to it."""

    title: str
    done: tuple[str, ...]
    candidate: Candidate
    applied: Applied


def ladder(workload: Workload, space: DesignSpace, winner: Candidate, target: Target) -> tuple[DesignSpace, list[Rung]]:
    """The space of the rungs, and the rungs from the unscheduled program to the winner, which is the last.

    A step that changes nothing, or after which the program cannot be one (yet), goes with the next. Raises
    InvalidCandidate where the winner is no point of the space.
    """
    steps = [] if winner.is_default else list(_steps(space.sketches[winner.sketch], winner))
    sketches = tuple(step.sketch for step in steps)
    own = DesignSpace(space.target_kind, sketches, space.pass_names, space.vector_lanes)
    applier = TraceApplier(workload, own, target)
    first = _rung("unscheduled", ("the loops as the operator defines them",), own.default(), applier, target)
    assert first is not None, "the untuned program has no decisions that could not be applied"
    rungs = [first]
    waiting: list[str] = []
    for step in steps:
        candidate = Candidate(step.sketch.number, winner.decisions[: len(step.sketch.knobs)])
        rung = _rung(step.sketch.rule, (*waiting, *step.done), candidate, applier, target)
        if rung is None or (step is not steps[-1] and tvm_ffi.structural_equal(_body(rung), _body(rungs[-1]))):
            waiting += step.done
        else:
            rungs.append(rung)
            waiting = []
    if steps and rungs[-1].candidate.sketch != steps[-1].sketch.number:
        raise InvalidCandidate("the winner's trace cannot be applied")
    for setting in winner.passes.settings:
        if setting != PASSES[setting.name]():
            last = rungs[-1].candidate
            candidate = dataclasses.replace(last, passes=last.passes.replace(setting))
            rungs += filter(None, [_rung(setting.to_text(), (setting.line(),), candidate, applier, target)])
    return own, rungs


def _rung(
    title: str, done: tuple[str, ...], candidate: Candidate, applier: TraceApplier, target: Target
) -> Rung | None:
    try:
        applied = candidate.passes.applied(applier.apply(candidate).mod["main"], target)
    except InvalidCandidate:
        return None
    return Rung(title, done, candidate, applied)


def _body(rung: Rung) -> Any:
    return rung.applied.function.body


@dataclass(frozen=True)
class _Step:
    """The beginning of a trace up to a step, as a sketch whose `rule` is the step's title, and what the step does."""

    sketch: Sketch
    done: tuple[str, ...]


def _steps(sketch: Sketch, winner: Candidate) -> Iterator[_Step]:
    """The steps of a sketch with the winner's decisions; the last sketch has all of its trace."""
    instructions, decisions = json.loads(sketch.trace)
    decided = {knob.instruction: d for knob, d in zip(sketch.knobs, winner.decisions, strict=True)}
    begin = 0
    for number, (title, end) in enumerate(_ends(instructions)):
        knobs = tuple(knob for knob in sketch.knobs if knob.instruction < end)
        trace = json.dumps([instructions[:end], [d for d in decisions if d[0] < end]])
        done = [*(_WORDS[kind] for kind in title.split(" and ")), *_told(instructions, decided, begin, end)]
        model = sketch.gpu if end == len(instructions) else None  # of the whole trace: its formulas need every knob
        yield _Step(Sketch(number, trace, knobs, rule=title, gpu=model), tuple(done))
        begin = end


def _told(instructions: Sequence[Any], decided: Mapping[int, Any], begin: int, end: int) -> Iterator[str]:
    """The tiles that some instructions make, and the names of the others."""
    tiles = [" x ".join(map(str, decided[n])) for n in range(begin, end) if isinstance(decided.get(n), tuple)]
    names = [instructions[n][0] for n in range(begin, end) if _kind(instructions[n])]
    counts = {name: names.count(name) for name in names if not name.startswith(("Sample", "Annotate"))}
    if tiles:
        yield f"tiles: {', '.join(tiles)}"
    if counts:
        yield ", ".join(name if count == 1 else f"{name} {count} times" for name, count in counts.items())


def _ends(instructions: Sequence[Any]) -> list[tuple[str, int]]:
    """Where rungs end: a title, and the number of instructions up to there."""
    ends: list[tuple[str, int]] = []
    for number, instruction in enumerate(instructions):
        kind = _kind(instruction)
        if kind and ends and ends[-1][0] == kind:
            ends[-1] = (kind, number + 1)
        elif kind:
            ends.append((kind, number + 1))
    if not ends:
        return [("schedule", len(instructions))]
    ends[-1] = (ends[-1][0], len(instructions))
    while len(ends) > MOST_RUNGS and (at := _tiling_before_another(ends)) is not None:
        ends[at : at + 2] = [(_joined(ends[at][0], ends[at + 1][0]), ends[at + 1][1])]
    while len(ends) > MOST_RUNGS:
        middle = len(ends) // 2
        ends[middle : middle + 2] = [(_joined(ends[middle][0], ends[middle + 1][0]), ends[middle + 1][1])]
    return ends


def _tiling_before_another(ends: Sequence[tuple[str, int]]) -> int | None:
    return next((n for n, (kind, _) in enumerate(ends[:-1]) if kind == "tile"), None)


def _joined(first: str, second: str) -> str:
    return " and ".join(dict.fromkeys([*first.split(" and "), *second.split(" and ")]))


def _kind(instruction: Sequence[Any]) -> str:
    name, _, attributes, *_ = instruction
    if name == "Annotate":
        return next((kind for key, kind in _ANNOTATIONS.items() if key in attributes), "")
    return _KINDS.get(name, "")
