"""Applies a candidate: its sketch's trace, with the candidate's decisions, gives a live schedule."""

from __future__ import annotations

import json
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.target import Target

from kernels.metaschedule import meta_schedule
from kernels.space.data import Candidate, InvalidCandidate
from kernels.space.design import DesignSpace
from kernels.space.rules import tune_context
from kernels.workload import Workload

_MOST_WORK = 8.0
"""How many times the arithmetic of the untuned program a candidate may do. A stage that is computed inside another's
loops is computed again in each of their steps. A softmax that does a thousand times the work reaches the run deadline,
or the build deadline: unrolled, it is a chain of comparisons that LLVM takes minutes to compile."""


class TraceApplier:
    """Turns candidates of one workload into schedules. Made once a process and workload (20 ms)."""

    def __init__(self, workload: Workload, space: DesignSpace, target: Target) -> None:
        ms = meta_schedule()
        self.space = space
        self.context = tune_context(workload, target)
        self.module = self.context.mod
        self._postprocs = ms.Postproc.create("llvm" if target.kind.name == "llvm" else "cuda-tensorcore")
        for postproc in self._postprocs:
            postproc._initialize_with_tune_context(self.context)  # noqa: SLF001 - TVM has no public name for it
        self._work = _work(self.module) if target.kind.name == "llvm" else 0.0
        self._traces = [json.loads(s.trace) for s in space.sketches]

    def apply(self, candidate: Candidate, described: bool = False) -> Schedule:
        """The scheduled program of a candidate.

        `described` is for running the program elsewhere: blocks that an intrinsic would replace keep the intrinsic's
        description, and the target's limits are not checked.
        Raises InvalidCandidate when the decisions do not apply, a target limit is exceeded, or, on a CPU, the program
        does over _MOST_WORK times the arithmetic of the untuned one.
        """
        if not self.space.contains(candidate):  # TVM would accept some of them, and crash on others
            raise InvalidCandidate("not a point of this design space")
        schedule = Schedule(self.module, seed=1, error_render_level="none")
        if candidate.is_default:
            return schedule
        try:
            tvm.s_tir.schedule.Trace.apply_json_to_schedule(self._decided_trace(candidate), schedule)
            candidate.passes.on_schedule(schedule, self.context.target)
            self._postprocess(schedule, described)
        except (RuntimeError, ValueError) as error:
            raise InvalidCandidate((str(error).strip() or type(error).__name__).splitlines()[-1][:300]) from error
        if self._work and (times := _work(schedule.mod) / self._work) > _MOST_WORK:
            raise InvalidCandidate(f"it does {times:.3g} times the arithmetic of the untuned program")
        return schedule

    def _decided_trace(self, candidate: Candidate) -> list[Any]:
        """The trace of the candidate's sketch with the candidate's decisions, as JSON."""
        instructions, sampled = self._traces[candidate.sketch]
        decisions = dict(sampled)
        for knob, decision in zip(self.space.sketches[candidate.sketch].knobs, candidate.decisions, strict=True):
            decisions[knob.instruction] = list(decision) if isinstance(decision, tuple) else decision
        return [instructions, [[i, d] for i, d in sorted(decisions.items())]]

    def _postprocess(self, schedule: Schedule, described: bool) -> None:
        """Run TVM's postprocessors. Raises InvalidCandidate when one rejects the program."""
        schedule.enter_postproc()
        for postproc in self._postprocs:
            if described and type(postproc).__name__ in ("RewriteTensorize", "VerifyGPUCode"):
                continue
            if not postproc.apply(schedule):
                raise InvalidCandidate(f"rejected by {type(postproc).__name__}")


def _work(module: tvm.IRModule) -> float:
    """Arithmetic operations of a program (0.3 ms); 0 where TVM cannot count them."""
    try:
        return float(estimate_tir_flops(module))
    except (RuntimeError, ValueError):
        return 0.0
