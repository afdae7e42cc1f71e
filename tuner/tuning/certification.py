"""The finalists of one task and its untuned program, measured again: several fresh processes, fresh inputs.

Whoever was fastest in the search was lucky as well as fast. What is reported is therefore measured again, side by side
with the other finalists; the search's choice stands unless another is plainly faster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kernels.space import Candidate
from tuner.measure.pooled import AaControl, aa_noise_floor, pool_processes, with_noise_floor
from tuner.protocols import CERTIFY, Bench
from tuner.records import Measurement, Status

PROCESSES = 3
"""Fresh processes a certification spans: where things lie in memory is settled once in each."""

_POLICY = dataclasses.replace(CERTIFY, min_time_s=CERTIFY.min_time_s / PROCESSES, warmup_s=0.0)
"""For one process: the least time is that of all of them together."""


class Certification:
    """`candidates` in the order of the search's opinion, the untuned program last; what cannot be run is in `failed`,
    for the others `jobs` says how.

    `name` tells this occasion from others: only measurements of one occasion are compared pair by pair.
    """

    def __init__(
        self,
        name: str,
        candidates: Sequence[Candidate],
        jobs: Mapping[Candidate, Mapping[str, Any]],
        failed: Mapping[Candidate, Measurement],
    ) -> None:
        self._name = name
        self._candidates = [c for c in candidates if c in jobs or c in failed]
        self._jobs = dict(jobs)
        self._failed = dict(failed)
        self._found: list[dict[Candidate, Measurement]] = []
        self._controls: list[AaControl | None] = []

    @property
    def processes(self) -> int:
        """In how many processes it was measured so far."""
        return len(self._found)

    def measure(self, bench: Bench, budget_s: float) -> None:
        """Measure all that have not failed yet, in `bench`'s process, within about `budget_s` seconds."""
        taking_part = [c for c in self._candidates if c not in self._failed]
        if not taking_part:
            return
        jobs = [self._jobs[c] for c in taking_part]
        measured, control = bench.measure_interleaved(jobs, _POLICY, budget_s, seed=self.processes)
        self._found.append(dict(zip(taking_part, measured, strict=True)))
        self._controls.append(control)
        self._failed.update({c: m for c, m in self._found[-1].items() if not m.ok})

    def settle(self, lower_bound_s: float) -> dict[Candidate, Measurement]:
        """One measurement each. What failed in any process has failed; what beats the physical floor is suspect."""
        pooled = {}
        for candidate in self._candidates:
            failed = self._failed.get(candidate)
            pooled[candidate] = failed or self._pooled(candidate, lower_bound_s)
        incumbents = [next((m for m in found.values() if m.ok), None) for found in self._found]
        both = [(m, s) for m, s in zip(incumbents, self._controls, strict=True) if m is not None]
        floor = aa_noise_floor([m for m, _ in both], [s for _, s in both])
        return {c: with_noise_floor(m, floor) for c, m in pooled.items()}

    def _pooled(self, candidate: Candidate, lower_bound_s: float) -> Measurement:
        measured = pool_processes([found[candidate] for found in self._found], self._name)
        if measured.ok and measured.median_s < lower_bound_s:
            reason = f"{measured.median_s:.3g} s is under the physical floor of {lower_bound_s:.3g} s"
            return Measurement(Status.SUSPECT, fidelity=measured.fidelity, reason=reason, run_s=measured.run_s)
        return measured
