"""From a candidate back to a live schedule."""

from __future__ import annotations

import json

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
"""Times the arithmetic of the untuned program. A stage that is computed inside of another's loops is done again for
each of their steps. A softmax that does a thousand times the work costs a run's deadline, or LLVM's: unrolled, it is a
chain of comparisons that LLVM takes minutes over."""


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

        `described` is for running it elsewhere: blocks that an intrinsic would replace stay what the intrinsic is
        described to do, and the target's limits are not checked.
        Raises InvalidCandidate when the decisions do not apply, a target limit is exceeded, or, on a CPU, the same is
        computed over and over.
        """
        if not self.space.contains(candidate):  # TVM would take some of them, and crash on others
            raise InvalidCandidate("no point of this design space")
        schedule = Schedule(self.module, seed=1, error_render_level="none")
        if candidate.is_default:
            return schedule
        instructions, decisions = self._traces[candidate.sketch]
        chosen = {i: d for i, d in decisions}
        for knob, decision in zip(self.space.sketches[candidate.sketch].knobs, candidate.decisions, strict=True):
            chosen[knob.instruction] = list(decision) if isinstance(decision, tuple) else decision
        try:
            tvm.s_tir.schedule.Trace.apply_json_to_schedule(
                [instructions, [[i, d] for i, d in sorted(chosen.items())]], schedule
            )
            candidate.passes.on_schedule(schedule)
            schedule.enter_postproc()
            for postproc in self._postprocs:
                if described and type(postproc).__name__ in ("RewriteTensorize", "VerifyGPUCode"):
                    continue
                if not postproc.apply(schedule):
                    raise InvalidCandidate(f"rejected by {type(postproc).__name__}")
        except (RuntimeError, ValueError) as error:
            raise InvalidCandidate((str(error).strip() or type(error).__name__).splitlines()[-1][:300]) from error
        if self._work and (times := _work(schedule.mod) / self._work) > _MOST_WORK:
            raise InvalidCandidate(f"it does {times:.3g} times the arithmetic of the untuned program")
        return schedule


def _work(module: tvm.IRModule) -> float:
    """The arithmetic operations of a program; 0 where TVM cannot count them. Takes 0.3 ms."""
    try:
        return float(estimate_tir_flops(module))
    except (RuntimeError, ValueError):
        return 0.0
