"""From a candidate back to a live schedule."""

from __future__ import annotations

import json

import tvm
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.passes import PassConfig
from kernels.passes.unroll import Unroll
from kernels.reference import reduces_to_extremum
from kernels.space.data import Candidate, InvalidCandidate
from kernels.space.design import DesignSpace
from kernels.space.rules import tune_context
from kernels.warm import meta_schedule
from kernels.workload import Workload

_LONGEST_CHAIN = 16
"""Comparisons of floats in a row that LLVM is given at most. Whether one of 48 may be NaN it looks for without an end
(minutes, then the deadline), because each looks at both of what it chooses from."""


class Replayer:
    """Turns candidates of one workload into schedules. Made once a process and workload (20 ms)."""

    def __init__(self, workload: Workload, space: DesignSpace, target: Target) -> None:
        ms = meta_schedule()
        self.space = space
        self.context = tune_context(workload, target)
        self.module = self.context.mod
        self._postprocs = ms.Postproc.create("llvm" if target.kind.name == "llvm" else "cuda-tensorcore")
        for postproc in self._postprocs:
            postproc._initialize_with_tune_context(self.context)  # noqa: SLF001 - TVM has no public name for it
        self._chains = target.kind.name == "llvm" and reduces_to_extremum(self.module["main"])
        self._traces = [json.loads(s.trace) for s in space.sketches]

    def apply(self, candidate: Candidate, described: bool = False) -> Schedule:
        """The scheduled program of a candidate.

        `described` is for running it elsewhere: blocks that an intrinsic would replace stay what the intrinsic is
        described to do, and the target's limits are not checked.
        Raises InvalidCandidate when the decisions do not apply or a target limit is exceeded.
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
            self._settings(candidate).on_schedule(schedule)
            schedule.enter_postproc()
            for postproc in self._postprocs:
                if described and type(postproc).__name__ in ("RewriteTensorize", "VerifyGPUCode"):
                    continue
                if not postproc.apply(schedule):
                    raise InvalidCandidate(f"rejected by {type(postproc).__name__}")
        except (RuntimeError, ValueError) as error:
            raise InvalidCandidate((str(error).strip() or type(error).__name__).splitlines()[-1][:300]) from error
        return schedule

    def _settings(self, candidate: Candidate) -> PassConfig:
        """The passes as they are applied: a maximum or minimum is not unrolled further than LLVM can bear."""
        deep = any(isinstance(s, Unroll) and s.depth > _LONGEST_CHAIN for s in candidate.passes.settings)
        return candidate.passes.replace(Unroll(_LONGEST_CHAIN)) if deep and self._chains else candidate.passes
