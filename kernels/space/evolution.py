"""TVM's own search, step by step: its evolution proposes points of our design space and learns their times."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace
from tvm.target import Target

from kernels.metaschedule import meta_schedule
from kernels.space.data import Candidate, Knob, Sketch
from kernels.space.decision import Decision, as_factors
from kernels.space.design import DesignSpace
from kernels.space.plain import plain
from kernels.space.rules import decides_unrolling, tvm_schedules
from kernels.workload import Workload

_ENDLESS = 2**31 - 1
"""A number of trials that is never reached: the caller decides when to stop."""

_FAILED_S = 1e10
"""The seconds that TVM records for a program that could not be timed."""

_SAMPLING = ("SamplePerfectTile", "SampleCategorical", "SampleComputeLocation")


class Evolution:
    """TVM's evolutionary search with TVM's cost model over TVM's sketches in a design space, `batch` proposals a round.

    Only the decisions and the depth of unrolling are searched: TVM has no other passes, which stay at their first
    setting. The space's limits are one more of TVM's postprocessors. TVM computes stages at any loop, our spaces only
    at the end of a level of tiling: a stage is moved to the nearest such loop, and TVM learns of the program with the
    moved stage. It runs on one thread, so that the same seed gives the same proposals, and seeds numpy's global
    generator, from which TVM's cost model draws.
    """

    def __init__(
        self, workload: Workload, space: DesignSpace, target: Target, seed: int, population: int, batch: int
    ) -> None:
        ms = meta_schedule()
        np.random.seed(seed % 2**32)  # TVM's cost model draws from it before it has learned enough
        self._ms = ms
        self._reader = _TraceReader(space)
        schedules = [s for s in tvm_schedules(workload, target) if self._reader.knows(s)]
        kind = "llvm" if target.kind.name == "llvm" else "cuda-tensorcore"
        self._context = ms.TuneContext(
            mod=workload.module(),
            target=target,
            space_generator=ms.space_generator.PostOrderApply(
                sch_rules=[], postprocs=[_limits(self._reader), *ms.Postproc.create(kind)], mutator_probs=kind
            ),
            search_strategy=ms.search_strategy.EvolutionarySearch(population_size=population),
            num_threads=1,
            rand_state=seed % _ENDLESS + 1,
        )
        self._database = ms.database.MemoryDatabase()
        self._workload = self._database.commit_workload(self._context.mod)
        self._model = ms.cost_model.XGBModel(num_tuning_cores=1)
        self._open: dict[int, Any] = {}
        self._proposed = 0
        self._finished = not schedules
        if schedules:
            self._context.pre_tuning(_ENDLESS, batch, schedules, self._database, self._model)

    def propose(self) -> dict[int, Candidate | None] | None:
        """The next round by number, with None for a program that is no point of the space; None when TVM has finished.

        Takes seconds; for a large convolution half a minute.
        """
        proposals = None if self._finished else self._context.generate_measure_candidates()
        if proposals is None:
            self._finished = True
            return None
        points: dict[int, Candidate | None] = {}
        for number, proposed in enumerate(proposals, start=self._proposed):
            self._open[number], points[number] = self._point(proposed)
        self._proposed += len(points)
        return points

    def learn(self, outcomes: Mapping[int, float | None]) -> None:
        """Teach the seconds that proposals took by number, None for failures. Each number counts once."""
        fresh = {number: outcomes[number] for number in sorted(outcomes) if number in self._open}
        if not fresh:
            return
        ms = self._ms
        candidates = [self._open.pop(number) for number in fresh]
        results = [
            ms.runner.RunnerResult(None, "failed") if seconds is None else ms.runner.RunnerResult([seconds], None)
            for seconds in fresh.values()
        ]
        self._context.notify_runner_results(candidates, results)
        for candidate, seconds in zip(candidates, fresh.values(), strict=True):
            record = ms.database.TuningRecord(
                candidate.sch.trace,
                self._workload,
                [_FAILED_S if seconds is None else seconds],
                self._context.target,
                candidate.args_info,
            )
            self._database.commit_tuning_record(record)
        self._model.update(self._context, candidates, results)

    def program(self, number: int) -> Any:
        """The scheduled module that TVM learns of for the number of a proposal."""
        return self._open[number].sch.mod

    def _point(self, proposed: Any) -> tuple[Any, Candidate | None]:
        """The measure candidate that TVM is to learn of, and the point of the space that it is."""
        read = self._reader.read(proposed.sch.trace)
        if read is None or not self._reader.legal(read):
            return proposed, None
        if not read.moved:
            return proposed, self._reader.candidate(read)
        remade = self._remade(read, proposed.args_info)
        return (proposed, None) if remade is None else (remade, self._reader.candidate(read))

    def _remade(self, read: _Read, arguments: Any) -> Any:
        """A proposal with its stages where they were moved to; None where they cannot be computed there."""
        schedule = Schedule(self._context.mod, seed=1, error_render_level="none")
        listed = [[i, list(d) if isinstance(d, tuple) else d] for i, d in sorted(read.decisions.items())]
        try:
            Trace.apply_json_to_schedule([read.instructions, listed], schedule)
            schedule.enter_postproc()
            fits = all(postproc.apply(schedule) for postproc in self._context.space_generator.postprocs)
        except (RuntimeError, ValueError):
            return None
        return self._ms.MeasureCandidate(schedule, arguments) if fits else None


# --- reading TVM's traces ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Script:
    """How the traces of a sketch are read: which instruction makes each knob's decision, and that of unrolling."""

    sketch: Sketch
    knobs: tuple[int, ...]
    unroll: int | None


@dataclass(frozen=True)
class _Read:
    """A trace whose decisions are choices of a sketch. `moved`: some stages were moved to make them so."""

    script: _Script
    instructions: list[Any]
    decisions: Mapping[int, Decision]
    moved: bool


class _TraceReader:
    """Reads the traces of TVM's search, which have no dead instructions, as points of a design space."""

    def __init__(self, space: DesignSpace) -> None:
        self._space = space
        self._scripts: dict[str, _Script] = {}

    def knows(self, schedule: Any) -> bool:
        """Whether a schedule is a sketch of the space. Where it is, its traces can be read from now on."""
        whole = plain(schedule.trace.as_json())
        sketch = next((s for s in self._space.sketches if s.trace == json.dumps(whole)), None)
        short, _ = plain(schedule.trace.simplified(remove_postproc=True).as_json())
        before, after = _sampled(whole[0]), _sampled(short)
        if sketch is None or [whole[0][i][0] for i in before] != [short[i][0] for i in after]:
            return False
        simplified = dict(zip(before, after, strict=True))
        unroll = next((i for i in after if decides_unrolling(short, i)), None)
        self._scripts[json.dumps(short)] = _Script(
            sketch, tuple(simplified[k.instruction] for k in sketch.knobs), unroll
        )
        return True

    def read(self, trace: Any) -> _Read | None:
        """A trace as decisions; None for a program that is no point of the space."""
        instructions, listed = plain(trace.as_json())
        end = next((i for i, ins in enumerate(instructions) if ins[0] == "EnterPostproc"), len(instructions))
        script = self._scripts.get(json.dumps(instructions[:end]))
        if script is None:  # e.g. TVM has changed how many parallel jobs there are
            return None
        drawn = {i: tuple(d) if isinstance(d, list) else d for i, d in listed if i < end}
        knobs = dict(zip(script.knobs, script.sketch.knobs, strict=True))
        chosen = {i: _nearest(knob, drawn[i]) for i, knob in knobs.items()}
        if any(choice not in knobs[i].index for i, choice in chosen.items()):
            return None
        return _Read(script, instructions[:end], {**drawn, **chosen}, any(drawn[i] != d for i, d in chosen.items()))

    def legal(self, read: _Read) -> bool:
        return self._space.legal(self.candidate(read))

    def candidate(self, read: _Read) -> Candidate:
        """The point of the space, with the nearest setting of the unroll pass, and every other pass at its first."""
        sketch = read.script.sketch
        chosen = [k.index[read.decisions[i]] for i, k in zip(read.script.knobs, sketch.knobs, strict=True)]
        candidate = self._space.from_indices(sketch.number, (*chosen, *(0 for _ in self._space.pass_names)))
        unroll = read.script.unroll
        if unroll is None or "unroll" not in self._space.pass_names:
            return candidate
        depth = read.instructions[unroll][2][0][read.decisions[unroll]]
        variants = self._space.pass_variants[self._space.pass_names.index("unroll")]
        nearest = min(variants, key=lambda v: abs(math.log2(v.depth + 1) - math.log2(depth + 1)))
        return Candidate(sketch.number, candidate.decisions, candidate.passes.replace(nearest))


def _limits(reader: _TraceReader) -> Any:
    """A TVM postprocessor that rejects programs which are no legal points of the space.

    Without it four of five proposals for a 3x3 convolution are no points, and they take as long as the others.
    """

    @derived_object
    class LimitsPostproc(meta_schedule().postproc.PyPostproc):  # type: ignore[misc] # TVM's modules have no types
        def _initialize_with_tune_context(self, context: Any) -> None:
            pass

        def apply(self, schedule: Any) -> bool:
            read = reader.read(schedule.trace)
            return read is not None and reader.legal(read)

        def clone(self) -> Any:
            return LimitsPostproc()

    return LimitsPostproc()


def _nearest(knob: Knob, decision: Decision) -> Decision:
    """The nearest choice of a stage's loop; any other decision as it is."""
    if knob.role != "location" or decision in knob.index:
        return decision
    return min(knob.choices, key=lambda choice: abs(as_factors(choice)[0] - as_factors(decision)[0]))


def _sampled(instructions: list[Any]) -> list[int]:
    return [i for i, instruction in enumerate(instructions) if instruction[0] in _SAMPLING]
