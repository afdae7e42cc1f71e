"""One task: ask, build, check, measure, tell, record. What is known from earlier runs is not measured again.

A search that was interrupted is replayed from its beginning: the strategy is asked what it was asked and told what
was measured then, until it asks for something that was not measured (docs/decisions/0006-records-are-the-state.md).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels.space import Candidate, DesignSpace
from tuner.config import EffortSettings
from tuner.measure.pooled import compare_measurements, fastest, tied
from tuner.protocols import RANK, Artifact, Job, Policy, Proposal, Reference, Stop, Strategy, Task, TuningDevice
from tuner.records import Fidelity, Measurement, Status
from tuner.search.ranker import FeatureCache
from tuner.tuning.certification import Certification
from tuner.tuning.ledger import Ledger, batch_of, cost_s
from tuner.tuning.trials import Trials, screening_policy

_UNLABELLED_BATCH = 16
"""Records of schema 1 do not name their batch: so many count as one."""

_LOAD_S, _LEAST_CALLS = 0.05, 3
"""What a kernel costs in a process of its certification, at least: seconds for loading, and calls."""

Known = Mapping[tuple[str, Fidelity], Measurement]
"""What earlier runs measured, by candidate and fidelity."""

Interrupted = Mapping[str, Measurement]
"""Screenings of a search that was interrupted, by candidate, in the order in which they were made."""


@dataclass(frozen=True)
class Batch:
    """One batch as its records tell it. `seconds` is what it cost, `best_s` the task's best after it."""

    trials: int
    seconds: float
    best_s: float | None


@dataclass(frozen=True)
class Step:
    """What one batch came to: `trials`, of them `measured` now; the others were of a search that was interrupted."""

    trials: int
    measured: int
    exhausted: bool


class TaskSession:
    """The search for one task's best kernel, and its final measurements.

    `short_of_time`: builds and calls have less time than usual; what is late is not stored as failed.
    """

    def __init__(
        self,
        task: Task,
        space: DesignSpace,
        strategy: Strategy,
        features: FeatureCache,
        device: TuningDevice,
        ledger: Ledger,
        settings: EffortSettings,
        folder: Path,
        known: Known,
        interrupted: Interrupted | None = None,
        short_of_time: bool = False,
        reached: bool = True,
    ) -> None:
        self.task = task
        self.space = space
        self._reached = reached
        self._strategy = strategy
        self._features = features
        self._ledger = ledger
        self._settings = settings
        self._known = known
        self._interrupted = {Candidate.from_text(text): m for text, m in (interrupted or {}).items()}
        self._bench = device.bench
        self._short_of_time = short_of_time
        self._trials = Trials(task, space.default(), device, ledger.seed, folder)
        self.screened: dict[Candidate, Measurement] = {}
        self.ranked: dict[Candidate, Measurement] = {}
        self.certified: dict[Candidate, Measurement] = {}
        self._certification: Certification | None = None
        self._nominated: list[Candidate] = []
        self._preferred: Candidate | None = None
        self.strategy_s = 0.0  # of asking and telling the strategy
        for (text, fidelity), measurement in known.items():
            if fidelity is Fidelity.SCREEN:
                self._learn(Candidate.from_text(text), measurement)
        self._batch = max((batch_of(m) for c, m in self.screened.items() if not c.is_default), default=0)

    # --- what is known ------------------------------------------------------------------------------

    @property
    def best(self) -> Candidate | None:
        """The fastest verified candidate that is not the default: as certified where that was done (one that failed
        there gives way to the next), else by rank where ranked, else by screening; or the one that was preferred."""
        if self._preferred is not None:
            return self._preferred
        if self.certified:
            order = [c for c in self.certified if not c.is_default]
            winner = fastest([self.certified[c] for c in order])
            return None if winner is None else order[winner]
        timed = {c: m for c, m in (self.ranked or self.screened).items() if m.ok and not c.is_default}
        return min(timed, key=lambda c: timed[c].median_s, default=None)

    @property
    def best_s(self) -> float | None:
        return min((m.median_s for m in self.screened.values() if m.ok), default=None)

    @property
    def untuned_s(self) -> float | None:
        for measured in (self.certified, self.ranked, self.screened):
            default = measured.get(self.space.default())
            if default is not None and default.ok:
                return default.median_s
        return None

    @property
    def unverified(self) -> str:
        """Why nothing independent checks the kernels; empty where something does."""
        return self._trials.references.unverified

    def reference(self) -> Reference | None:
        """What the kernels must give on the inputs of the search; None where nothing can be had to check against."""
        self._trials.references.prepare(self._ledger.seed)
        return self._trials.references.of(self._ledger.seed)

    def ties(self) -> list[Candidate]:
        """The certified finalists that cannot be told from the winner."""
        order = [c for c in self.certified if not c.is_default]
        if self.best not in order:  # nothing was certified: the run was interrupted before
            return []
        return [order[i] for i in tied([self.certified[c] for c in order], order.index(self.best))]

    def searched_s(self, candidate: Candidate) -> float | None:
        """The seconds that the search took a candidate to need, before it was certified."""
        for measured in (self.ranked, self.screened):
            if candidate in measured and measured[candidate].ok:
                return measured[candidate].median_s
        return None

    @property
    def trials(self) -> int:
        return len(self.screened)

    @property
    def known_cost_s(self) -> float:
        """Seconds of search that the screenings took, those of earlier runs included."""
        return sum(cost_s(m) for m in self.screened.values())

    def batches(self) -> list[Batch]:
        """What the search of this task came to, batch by batch, earlier runs included.

        From the records alone, so that a search that was killed goes on as if it had not been. The untuned program
        costs time and is no trial.
        """
        best: float | None = None
        batches: dict[int, Batch] = {}
        for place, (candidate, measurement) in enumerate(self.screened.items()):
            if measurement.ok and (best is None or measurement.median_s < best):
                best = measurement.median_s
            labelled = measurement.conditions.batch is not None
            number = batch_of(measurement) if labelled else -1 - place // _UNLABELLED_BATCH
            before = batches.get(number, Batch(0, 0.0, None))
            trials, seconds = before.trials + (not candidate.is_default), before.seconds + cost_s(measurement)
            batches[number] = Batch(trials, seconds, best)
        return list(batches.values())

    # --- the search ---------------------------------------------------------------------------------

    def measure_default(self) -> None:
        """Measure the untuned program, unless that is known."""
        if self.space.default() not in self.screened:
            if self.space.default() not in self._interrupted:
                self._trials.references.prepare(self._ledger.seed)
            self._screen([Proposal(self.space.default(), "default")], lambda: False, self._batch + 1)

    def probe(self, candidates: Sequence[Candidate], stop: Stop, proposer: str = "initial") -> None:
        """Measure some initial candidates, whatever the strategy is; those known are not repeated."""
        initial = [c for c in candidates if c not in self.screened]
        if initial:
            self._trials.references.prepare(self._ledger.seed)
            self._screen([Proposal(c, proposer) for c in initial], stop, 0)

    def step(self, count: int, stop: Stop, refine: bool = False) -> Step:
        """One batch of at most `count` new candidates; ends early once `stop()` is true. `refine`: see `Strategy`."""
        began = time.monotonic()
        proposals = self._strategy.ask(count, refine)
        self.strategy_s += time.monotonic() - began
        if not proposals:
            return Step(0, 0, exhausted=True)
        trials, written = self._ledger.trials, self._ledger.numbered
        if proposals[0].candidate not in self._interrupted:
            self.restore_rest()  # the search is past what was interrupted, or takes another way
        new = [p for p in proposals if p.candidate not in self.screened]
        if any(p.candidate not in self._interrupted for p in new):
            self._trials.references.prepare(self._ledger.seed)
        asking_s = (time.monotonic() - began) / len(proposals)
        self._batch += 1
        chunk = self._settings.chunk
        for start in range(0, len(new), chunk):
            self._screen(new[start : start + chunk], stop, self._batch, asking_s)
        return Step(self._ledger.trials - trials, self._ledger.numbered - written, exhausted=False)

    def restore_rest(self) -> None:
        """Take what is left of an interrupted search as known: it will not be replayed."""
        for candidate, measurement in self._interrupted.items():
            self._restore(candidate, measurement)
        restored = [batch_of(m) for c, m in self._interrupted.items() if not c.is_default]
        self._batch = max([self._batch, *restored])
        self._interrupted.clear()

    def _restore(self, candidate: Candidate, measurement: Measurement) -> None:
        """A screening that was made before."""
        self._ledger.restore(measurement)
        self._learn(candidate, measurement)

    def _learn(self, candidate: Candidate, measurement: Measurement) -> None:
        self.screened[candidate] = measurement
        if not candidate.is_default and measurement.status is not Status.DEFERRED:
            began = time.monotonic()
            self._strategy.tell(candidate, measurement)
            self.strategy_s += time.monotonic() - began

    def _screen(self, proposals: Sequence[Proposal], stop: Stop, batch: int, asking_s: float = 0.0) -> None:
        began = time.monotonic()
        new = [p.candidate for p in proposals if p.candidate not in self._interrupted]
        made = self._trials.build(new, stop) if new else {}
        share_s = asking_s + (time.monotonic() - began) / max(len(made), 1)
        for proposal in proposals:
            candidate = proposal.candidate
            if candidate in self._interrupted:
                self._restore(candidate, self._interrupted.pop(candidate))
                continue
            built = made.get(candidate)
            if built is None or stop():
                break
            policy = screening_policy(self.best_s, self._settings.give_up, self._settings.no_finalist)
            measurement = self._trials.measure(candidate, built, policy, self._ledger.seed)
            cost = measurement.conditions.cost_s  # a replayed measurement brings it along
            conditions = dataclasses.replace(
                measurement.conditions, batch=batch, cost_s=share_s + measurement.run_s if cost is None else cost
            )
            measurement = dataclasses.replace(measurement, build_s=built.build_s, conditions=conditions)
            vector = self._features.get(candidate)
            if not (self._short_of_time and measurement.status in (Status.BUILD_TIMEOUT, Status.RUN_TIMEOUT)):
                self._ledger.write(self.task, proposal, measurement, () if vector is None else vector.tolist())
            self._learn(candidate, measurement)
        self._trials.keep_fastest(list(self.screened.items()))

    # --- the end ------------------------------------------------------------------------------------

    def rank(self, stop: Stop) -> None:
        """Measure the finalists again, longer. What was ranked before is not measured again."""
        # Several finalists a task, dozens of tasks: what has not settled soon is left to certification.
        policy = dataclasses.replace(RANK, max_time_s=min(RANK.max_time_s, self._settings.rank_s))
        self.ranked = self._measured_again(self._finalists(), policy, "finalist", stop)

    def _finalists(self) -> list[Candidate]:
        """The fastest screened ones."""
        screened = [(m.median_s, i, c) for i, (c, m) in enumerate(self.screened.items()) if m.ok and not c.is_default]
        return [c for _, _, c in sorted(screened)[: self._settings.finalists]]

    def _measured_again(
        self, candidates: Sequence[Candidate], policy: Policy, proposer: str, stop: Stop
    ) -> dict[Candidate, Measurement]:
        results: dict[Candidate, Measurement] = {}
        missing = []
        for candidate in candidates:
            known = self._known.get((candidate.to_text(), policy.fidelity))
            if known is None:
                missing.append(candidate)
            else:
                results[candidate] = known
        if missing and not stop():
            seed = self._ledger.seed
            self._trials.references.prepare(seed)
            for candidate, built in zip(missing, self._trials.rebuilt(missing, stop), strict=False):
                if stop():
                    break
                results[candidate] = self._trials.measure(candidate, built, policy, seed)
                self._ledger.write(self.task, Proposal(candidate, proposer), results[candidate])
        return {c: results[c] for c in candidates if c in results}

    def finalists(self) -> dict[Candidate, float]:
        """The candidates that may win, the best first, with their seconds: that of the best, and of each other what it
        takes in the same rounds where both were certified."""
        best = self.best
        if best is None:
            return {}
        if not self.certified:
            timed = {c: m.median_s for c, m in self.ranked.items() if m.ok and not c.is_default}
            timed = timed or {c: self.screened[c].median_s for c in self._finalists()}
            return dict(sorted(timed.items(), key=lambda item: item[1]))
        base = self.certified[best]
        found = {best: base.median_s}
        for candidate, measured in self.certified.items():
            ratio = compare_measurements(measured, base).ratio if measured.ok and not candidate.is_default else None
            if candidate != best and ratio is not None:
                found[candidate] = ratio * base.median_s
        return found

    def nominate(self, candidate: Candidate) -> None:
        """Have a candidate certified with the finalists."""
        if candidate not in self._nominated:
            self._nominated.append(candidate)

    def prefer(self, candidate: Candidate) -> None:
        """Make a certified candidate the winner."""
        if not self.certified[candidate].ok:
            raise ValueError(f"{candidate.to_text()} failed when it was certified")
        self._preferred = candidate

    def refuse(self, candidate: Candidate, reason: str) -> None:
        """Count a candidate as wrong from now on, since it makes the whole model wrong; the next best takes its
        place."""
        if self._preferred == candidate:
            self._preferred = None
        for measured in (self.screened, self.ranked, self.certified):
            if candidate in measured:
                fidelity = measured[candidate].fidelity
                measured[candidate] = Measurement(Status.WRONG_RESULT, fidelity=fidelity, reason=reason)
        last = self.certified or self.ranked or self.screened
        if candidate in last:
            self._ledger.write(self.task, Proposal(candidate, "whole model"), last[candidate])

    def measure_untuned(self, candidate: Candidate, policy: Policy) -> Measurement:
        """Check and time the untuned program, or another build of it. It is no trial: not recorded."""
        seed = self._ledger.seed
        self._trials.references.prepare(seed)
        [built] = self._trials.rebuilt([candidate], lambda: False)
        measurement = self._trials.measure(candidate, built, policy, seed)
        if candidate == self.space.default():
            self.screened[candidate] = measurement
        return measurement

    def certify(self, stop: Stop, budget_s: float, most_s: float = math.inf) -> None:
        """One process's part of measuring the finalists and the untuned program again, on fresh inputs.

        Call it once for each of several processes (the bench renewed before each), then `settle`. `budget_s` is
        for this part. Nothing is measured where an earlier run did it all, where calling each kernel as often as it
        must be would take over `most_s` seconds, or where the search did not reach the task.
        """
        if stop() or self.certified or not self._reached or self._calls_s() > most_s:
            return
        if self._certification is None:
            self._begin_certification(stop)
        if self._certification is not None:
            self._certification.measure(self._bench, budget_s)

    def _calls_s(self) -> float:
        """Seconds that a process of the certification takes at least: loading, and checks and rounds of each kernel."""
        known = [*self.finalists().values(), *([self.untuned_s] if self.untuned_s is not None else [])]
        return sum(_LOAD_S + _LEAST_CALLS * seconds for seconds in known)

    def settle(self) -> None:
        """Pool what the processes measured, store it, and let it decide on the winner."""
        if self._certification is None or not self._certification.processes:
            return
        self.certified = self._certification.settle(self._trials.plausible)
        for candidate, measurement in self.certified.items():
            self._ledger.write(self.task, Proposal(candidate, "certification"), measurement)

    def _begin_certification(self, stop: Stop) -> None:
        ranked = sorted((c for c, m in self.ranked.items() if m.ok), key=lambda c: self.ranked[c].median_s)
        wanted = list(dict.fromkeys([*(ranked or self._finalists()), *self._nominated, self.space.default()]))
        known = {c: m for c in wanted if (m := self._known.get((c.to_text(), Fidelity.CERTIFY))) is not None}
        session_ids = {m.conditions.session_id for m in known.values() if m.ok}
        if len(known) == len(wanted) and len(session_ids) <= 1 and "" not in session_ids:
            self.certified = known
            return
        seed = self._ledger.seed + 1
        self._trials.references.prepare(seed)
        jobs: dict[Candidate, Job] = {}
        failed: dict[Candidate, Measurement] = {}
        for candidate, built in zip(wanted, self._trials.rebuilt(wanted, stop), strict=False):
            job = self._trials.job(candidate, built, Fidelity.CERTIFY, seed)
            if isinstance(job, Measurement):
                failed[candidate] = job
            else:
                jobs[candidate] = job
        self._certification = Certification(f"{self._ledger.run_id}/{self.task.key}", wanted, jobs, failed)

    def artifact_of(self, candidate: Candidate) -> Artifact | None:
        """What a candidate was built to, built again when it is no longer there; None when that fails."""
        built = next(iter(self._trials.rebuilt([candidate], lambda: False)), None)
        return built if isinstance(built, Artifact) else None
