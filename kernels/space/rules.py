"""The design space of a workload: sketches from TVM's schedule rules and from our sketch rules."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from tvm.target import Target

from kernels.gpus import MODELLED_AS
from kernels.metaschedule import meta_schedule
from kernels.passes import PASSES
from kernels.space import dots, gpu_formulas, gpu_rules, split_k, winograd
from kernels.space.constraints import is_lanes, limits_of, worth_trying
from kernels.space.data import Knob, Sketch
from kernels.space.decision import Decision
from kernels.space.design import DesignSpace
from kernels.space.gpu_solve import GpuSolver
from kernels.space.plain import plain
from kernels.space.sketch_rules import own_traces
from kernels.space.tiles import factorizations
from kernels.workload import Workload


def tune_context(
    workload: Workload, target: Target, rules: Sequence[Any] | None = None, module: tvm.IRModule | None = None
) -> Any:
    """TVM's tuning context of a workload, with TVM's rules for the target unless others are given. `module`: what the
    workload's program has become."""
    ms = meta_schedule()
    space = ms.space_generator.PostOrderApply
    return ms.TuneContext(
        mod=workload.module() if module is None else module,
        target=target,
        space_generator=space() if rules is None else space(sch_rules=list(rules), postprocs=[], mutator_probs={}),
        search_strategy="evolutionary",
        num_threads=1,
        rand_state=1,
    )


def generate(
    workload: Workload, target: Target, pass_names: Sequence[str] = tuple(PASSES), tf32: bool = False
) -> DesignSpace:
    """The design space that TVM's schedule rules and our sketch rules span, the same in every process (20 to 200 ms).

    The target must carry its limits (`num-cores` on a CPU). On CUDA there are sketches with tensor cores as well, for
    float32 only where `tf32` allows them. Left out are passes with a single setting on the target and those that do
    not concern this program.
    """
    own = list(own_traces(workload, target))
    # Nothing else is as fast for operands that stand as dot-product instructions read them, and for attention.
    narrow = (*dots.RULES, dots.TILE_RULE)
    for best in (narrow, ("attention",)):
        own = [pair for pair in own if pair[0] in best] or own
    # TVM's rules treat each stage of a Winograd convolution, and of attention, as a program of its own.
    alone = (*winograd.RULES, *narrow, "attention")
    empty = any(0 in spec.shape for spec in workload.args)  # nothing to tile, which TVM's rules take for an error
    without = empty or any(rule in alone for rule, _ in own)
    sketches = [] if without else _tvm_sketches(workload, target, tf32)
    for rule, trace in own:
        sketches.append(sketch_of(len(sketches), trace, target, rule))
    if not sketches:  # no rule applies: the identity schedule is still a space, of the passes alone
        sketches = [Sketch(0, json.dumps([[], []]), ())]
    module = workload.module()
    searched = tuple(
        name
        for name in pass_names
        if len(PASSES[name].variants(target.kind.name)) > 1 and PASSES[name].concerns(module)
    )
    return DesignSpace(target.kind.name, tuple(sketches), searched, vector_lanes(target))


def _tvm_sketches(workload: Workload, target: Target, tf32: bool) -> list[Sketch]:
    """Sketches of TVM's rules, none twice, and on a GPU none without a legal candidate."""
    sketches: list[Sketch] = []
    for schedule in tvm_schedules(workload, target, tf32):
        sketch = sketch_of(len(sketches), schedule.trace, target)
        if sketch.trace in {s.trace for s in sketches}:
            continue
        if target.kind.name != "llvm":
            sketch = replace(sketch, gpu=gpu_formulas.model(schedule, sketch.knobs, target, workload))
        if sketch.gpu and GpuSolver(sketch.knobs, sketch.gpu).draw(np.random.default_rng(0)) is None:
            continue
        sketches.append(sketch)
    if target.kind.name != "llvm":
        sketches += _split_sketches(workload, target, len(sketches))
    return sketches


def _split_sketches(workload: Workload, target: Target, number: int) -> list[Sketch]:
    """Tiled sketches of programs whose reduction is divided among thread blocks."""
    sketches: list[Sketch] = []
    plain_rules, *_ = gpu_rules.rule_sets(target, tf32=False)
    for division in split_k.divided(workload, target, MODELLED_AS):
        for schedule in tune_context(workload, target, plain_rules, division.module).generate_design_space():
            instructions, decisions = plain(schedule.trace.as_json())
            own = _knobs(instructions, dict(decisions), split_k.RULE)
            formulas = gpu_formulas.model(schedule, own, target, workload)
            if formulas is None:
                continue
            formulas = replace(formulas, second_launch_bytes=(division.parts + 1) * workload.outputs[0].nbytes)
            trace, knobs = division.prefixed(instructions, decisions), division.knobs(own)
            sketch = Sketch(number + len(sketches), trace, knobs, (), split_k.RULE, formulas)
            if GpuSolver(knobs, formulas).draw(np.random.default_rng(0)) is not None:
                sketches.append(sketch)
    return sketches


def tvm_schedules(workload: Workload, target: Target, tf32: bool = False) -> Iterator[Any]:
    """Live schedules of TVM's own sketches, with the decisions that TVM sampled."""
    if target.kind.name == "llvm":
        yield from tune_context(workload, target).generate_design_space()
        return
    plain, *tensor = gpu_rules.rule_sets(target, tf32)
    yield from tune_context(workload, target, plain).generate_design_space()
    for rules in tensor:  # where no intrinsic fits, TVM falls back to what the first set has made
        schedules = tune_context(workload, target, rules).generate_design_space()
        yield from (s for s in schedules if gpu_rules.uses_tensor_cores(s))


def vector_lanes(target: Target) -> int:
    """fp32 lanes of the target's vector registers (32 threads of a warp on a GPU)."""
    if target.kind.name != "llvm":
        return 32
    bits = int(tvm.target.codegen.llvm_get_vector_width(target))
    return max(bits // 32, 4) if bits > 0 else 4


def sketch_of(number: int, trace: Any, target: Target, rule: str = "tvm") -> Sketch:
    """A sketch from a live schedule's trace: its sampling instructions become knobs."""
    instructions, decisions = plain(trace.as_json())
    knobs = _knobs(instructions, dict(decisions), rule)
    limits = limits_of(knobs, target.kind.name, vector_lanes(target), rule)
    return Sketch(number, json.dumps([instructions, decisions]), tuple(knobs), limits, rule)


def _knobs(instructions: Sequence[Any], decisions: Mapping[int, Any], rule: str) -> list[Knob]:
    """One knob for each sampling instruction; the tiles of most factors are those of spatial loops."""
    tiles = [len(decisions[i]) for i, instruction in enumerate(instructions) if instruction[0] == "SamplePerfectTile"]
    spatial_factors = max(tiles, default=0)
    spatial_count = tiles.count(spatial_factors)
    locations = _locations(spatial_factors, spatial_count, len(tiles) - spatial_count)
    knobs: list[Knob] = []
    for i, (kind, _, attributes, *_) in enumerate(instructions):
        if kind == "SamplePerfectTile":
            count, innermost = attributes
            role = "spatial" if count == spatial_factors and not is_lanes(rule, innermost) else "reduce"
            choices = factorizations(math.prod(decisions[i]), count, innermost)
            choices = tuple(choice for choice in choices if worth_trying(rule, len(knobs), innermost, choice))
            knobs.append(Knob(role, choices, i))
        elif kind == "SampleComputeLocation":
            knobs.append(Knob("location", locations, i))
        elif kind == "SampleCategorical" and not decides_unrolling(instructions, i):  # the Unroll pass owns that one
            knobs.append(Knob("choice", tuple(range(len(attributes[0]))), i))
    return knobs


def decides_unrolling(instructions: Sequence[Any], number: int) -> bool:
    """Whether an instruction samples the depth of unrolling."""
    kind, _, _, made = instructions[number]
    return kind == "SampleCategorical" and any(
        ins[0] == "Annotate" and made[0] in ins[1] and "meta_schedule.unroll_explicit" in ins[2] for ins in instructions
    )


def _locations(spatial_factors: int, spatial: int, reduce: int) -> tuple[Decision, ...]:
    """Where a stage may be computed: at the root (-1), or at the last loop of a level of S..S R S R S tiling.

    `spatial` and `reduce` are the numbers of loops of each kind. Without such tiling, one of the first six loops.
    """
    if spatial_factors < 3:
        return tuple(range(-1, 6))
    ends = [spatial, 2 * spatial, 2 * spatial + reduce, 3 * spatial + reduce, 3 * spatial + 2 * reduce]
    return (-1, *(end - 1 for end in ends))
