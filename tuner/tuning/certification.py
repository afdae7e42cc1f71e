"""The finalists of one task and its untuned program, measured again: several fresh processes, fresh inputs.

Whoever was fastest in the search was lucky as well as fast. What is reported is therefore measured again, interleaved
with the other finalists; the search's choice stands unless another is plainly faster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from kernels.space import Candidate
from tuner.measure.pooled import aa_noise_floor, pool_processes, with_noise_floor
from tuner.protocols import CERTIFY, AaControl, Bench, Job
from tuner.records import Measurement

PROCESSES = 3
"""Fresh processes a certification spans: where things lie in memory is settled once in each."""

_POLICY = dataclasses.replace(CERTIFY, min_time_s=CERTIFY.min_time_s / PROCESSES, warmup_s=0.0)
"""For one process: the least time is that of all of them together."""


class Certification:
    """`candidates` in the order of the search's opinion, the untuned program last; what cannot be run is in `failed`,
    for the others `jobs` says how.

    `name` is the id of this session: only measurements of one session are compared pair by pair.
    """

    def __init__(
        self,
        name: str,
        candidates: Sequence[Candidate],
        jobs: Mapping[Candidate, Job],
        failed: Mapping[Candidate, Measurement],
    ) -> None:
        self._name = name
        self._candidates = [c for c in candidates if c in jobs or c in failed]
        self._jobs = dict(jobs)
        self._failed = dict(failed)
        self._measured: list[dict[Candidate, Measurement]] = []
        self._controls: list[AaControl | None] = []

    @property
    def processes(self) -> int:
        """In how many processes it was measured so far."""
        return len(self._measured)

    def measure(self, bench: Bench, budget_s: float) -> None:
        """Measure all that have not failed yet, in `bench`'s process, within about `budget_s` seconds."""
        taking_part = [c for c in self._candidates if c not in self._failed]
        if not taking_part:
            return
        jobs = [self._jobs[c] for c in taking_part]
        measured, control = bench.measure_interleaved(jobs, _POLICY, budget_s, seed=self.processes)
        self._measured.append(dict(zip(taking_part, measured, strict=True)))
        self._controls.append(control)
        self._failed.update({c: m for c, m in self._measured[-1].items() if not m.ok})

    def settle(self, plausible: Callable[[Measurement], Measurement]) -> dict[Candidate, Measurement]:
        """One measurement each. What failed in any process has failed; `plausible` refuses impossible times."""
        pooled = {c: self._failed.get(c) or plausible(self._pooled(c)) for c in self._candidates}
        incumbents = [next((m for m in measured.values() if m.ok), None) for measured in self._measured]
        both = [(m, s) for m, s in zip(incumbents, self._controls, strict=True) if m is not None]
        floor = aa_noise_floor([m for m, _ in both], [s for _, s in both])
        return {c: with_noise_floor(m, floor) for c, m in pooled.items()}

    def _pooled(self, candidate: Candidate) -> Measurement:
        return pool_processes([measured[candidate] for measured in self._measured], self._name)
