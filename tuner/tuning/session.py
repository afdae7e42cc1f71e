"""One task: ask, build, check, measure, tell, record. What is known from earlier runs is not measured again.

A search that was cut off is gone over again from its beginning: the strategy is asked what it was asked and told what
was measured then, until it asks for something that was not measured (docs/decisions/0006-records-are-the-state.md).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kernels.space import Candidate, DesignSpace
from tuner.devices.builder import LocalBuilder
from tuner.devices.cpu.bench import job_of
from tuner.files import require_room
from tuner.measure.pooled import fastest, tied
from tuner.protocols import (
    RANK,
    SCREEN,
    Artifact,
    Bench,
    BuildFailure,
    Policy,
    Proposal,
    RecordStore,
    Reference,
    Strategy,
    Task,
)
from tuner.records import Fidelity, Measurement, Record, Status
from tuner.search.ranker import FeatureCache
from tuner.tuning.certification import Certification

GIVE_UP = 3.0
"""A first sample this many times slower than the task's best is not worth another."""

NO_FINALIST = 1.5
"""A candidate this many times slower than the task's best will be no finalist: a few samples tell the model enough."""

FINALISTS = 5
_KEEP_BUILT = 8
_CHUNK = 16
"""Candidates built before they are measured: enough to keep all workers busy, few enough to lose little at
a deadline."""

_RANK_KERNEL = dataclasses.replace(RANK, max_time_s=1.0)
"""Several finalists a task, dozens of tasks: what has not settled within a second is left to certification."""

Known = Mapping[tuple[str, Fidelity], Measurement]

Cut = Mapping[str, Measurement]
"""Screenings of a search that was cut off, by candidate, in the order in which they were made."""


@dataclass
class Ledger:
    """Writes records as they come in, and counts. One for a whole run.

    `numbered` is the number of the last trial that was written, in this life of the run or an earlier one. `trials` are
    those of this search, measured or taken over from where it was cut off; the latter had taken `restored_s`.
    """

    store: RecordStore
    run_id: str
    scope: str
    seed: int
    numbered: int = 0
    trials: int = 0
    measured: int = 0
    reused: int = 0
    restored_s: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)

    def write(self, task: Task, proposal: Proposal, measurement: Measurement, features: Sequence[float] = ()) -> None:
        """Store one measurement durably, and count it as a trial when it was a screening."""
        if measurement.fidelity is Fidelity.SCREEN:
            self.numbered += 1
            self._count(measurement)
        self.measured += 1
        self.store.append(
            [
                Record(
                    run_id=self.run_id,
                    task_key=task.key,
                    task_name=task.name,
                    scope=self.scope,
                    trial=self.numbered,
                    candidate=proposal.candidate.to_text(),
                    proposer=proposal.proposer,
                    measurement=measurement,
                    seed=self.seed,
                    created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    features=tuple(features),
                )
            ]
        )

    def restore(self, screening: Measurement) -> None:
        """Count a trial that was stored before this search was cut off."""
        self._count(screening)
        self.restored_s += cost_s(screening)

    def _count(self, screening: Measurement) -> None:
        self.trials += 1
        if not screening.ok and screening.status is not Status.CENSORED:
            self.failed[screening.status.value] += 1


@dataclass(frozen=True)
class Batch:
    """One batch as its records tell it. `seconds` is what it cost, `best_s` the task's best after it."""

    trials: int
    seconds: float
    best_s: float | None


@dataclass(frozen=True)
class Step:
    """What one batch came to: `trials`, of them `measured` now; the others were of a search that was cut off."""

    trials: int
    measured: int
    exhausted: bool


def cost_s(measurement: Measurement) -> float:
    """Seconds of search that a screening took; 0 where its record does not say so in a number."""
    stated = measurement.conditions.get("cost_s")
    return float(stated) if isinstance(stated, int | float) and 0 <= stated < math.inf else 0.0


class TaskSession:
    """The search for one task's best kernel, and its final measurements."""

    def __init__(
        self,
        task: Task,
        space: DesignSpace,
        strategy: Strategy,
        features: FeatureCache,
        builder: LocalBuilder,
        bench: Bench,
        ledger: Ledger,
        folder: Path,
        known: Known,
        lower_bound_s: float = 0.0,
        cut: Cut | None = None,
    ) -> None:
        self.task = task
        self.space = space
        self._strategy = strategy
        self._features = features
        self._builder = builder
        self._bench = bench
        self._ledger = ledger
        self._folder = folder
        self._known = known
        self._lower_bound_s = lower_bound_s
        self._cut = {Candidate.from_text(text): measurement for text, measurement in (cut or {}).items()}
        self._references: dict[int, Reference] = {}
        self._artifacts: dict[Candidate, Artifact] = {}
        self.screened: dict[Candidate, Measurement] = {}
        self.ranked: dict[Candidate, Measurement] = {}
        self.certified: dict[Candidate, Measurement] = {}
        self._certification: Certification | None = None
        self.unverified = ""
        for (text, fidelity), measurement in known.items():
            if fidelity is Fidelity.SCREEN:
                candidate = Candidate.from_text(text)
                self.screened[candidate] = measurement
                if not candidate.is_default:
                    strategy.tell(candidate, measurement)
        self._batch = max((_batch_of(m) for c, m in self.screened.items() if not c.is_default), default=0)

    # --- what is known ------------------------------------------------------------------------------

    @property
    def best(self) -> Candidate | None:
        """The fastest verified candidate that is not the default: as certified where that was done (one that failed
        there gives way to the next), else by rank where ranked, else by screening."""
        if self.certified:
            order = [c for c in self.certified if not c.is_default]
            winner = fastest([self.certified[c] for c in order])
            return None if winner is None else order[winner]
        pool = {c: m for c, m in (self.ranked or self.screened).items() if m.ok and not c.is_default}
        return min(pool, key=lambda c: pool[c].median_s, default=None)

    @property
    def best_s(self) -> float | None:
        times = [m.median_s for m in self.screened.values() if m.ok]
        return min(times, default=None)

    @property
    def untuned_s(self) -> float | None:
        for measured in (self.certified, self.ranked, self.screened):
            default = measured.get(self.space.default())
            if default is not None and default.ok:
                return default.median_s
        return None

    def ties(self) -> list[Candidate]:
        """The certified finalists that cannot be told from the winner."""
        order = [c for c in self.certified if not c.is_default]
        if self.best not in order:  # nothing was certified: the run was interrupted before
            return []
        return [order[i] for i in tied([self.certified[c] for c in order], order.index(self.best))]

    def searched_s(self, candidate: Candidate) -> float | None:
        """The seconds that the search believed a candidate to take, before it was certified."""
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
        found: dict[int, Batch] = {}
        for place, (candidate, measurement) in enumerate(self.screened.items()):
            if measurement.ok and (best is None or measurement.median_s < best):
                best = measurement.median_s
            number = _batch_of(measurement) if "batch" in measurement.conditions else -1 - place // _CHUNK
            known = found.get(number, Batch(0, 0.0, None))
            found[number] = Batch(known.trials + (not candidate.is_default), known.seconds + cost_s(measurement), best)
        return list(found.values())

    # --- the search ---------------------------------------------------------------------------------

    def measure_default(self) -> None:
        """Measure the untuned program, unless that is known."""
        if self.space.default() not in self.screened:
            if self.space.default() not in self._cut:
                self._prepare_reference(self._ledger.seed)
            self._screen([Proposal(self.space.default(), "default")], lambda: False, {"batch": self._batch + 1})

    def probe(self, count: int, stop: Callable[[], bool]) -> None:
        """Measure up to `count` analytical first guesses, whatever the strategy is; those known are not repeated."""
        guesses = [c for c in self.space.initial_candidates()[:count] if c not in self.screened]
        if guesses:
            self._prepare_reference(self._ledger.seed)
            self._screen([Proposal(c, "seed") for c in guesses], stop, {"batch": 0})

    def step(self, count: int, stop: Callable[[], bool], refine: bool = False) -> Step:
        """One batch of at most `count` new candidates; ends early once `stop()` is true. `refine`: see `Strategy`."""
        began = time.monotonic()
        proposals = self._strategy.ask(count, refine)
        if not proposals:
            return Step(0, 0, exhausted=True)
        trials, written = self._ledger.trials, self._ledger.numbered
        if proposals[0].candidate not in self._cut:
            self.restore_rest()  # the search is past what was cut off, or takes another way
        new = [p for p in proposals if p.candidate not in self.screened]
        if any(p.candidate not in self._cut for p in new):
            self._prepare_reference(self._ledger.seed)
        asking_s = (time.monotonic() - began) / len(proposals)
        self._batch += 1
        for start in range(0, len(new), _CHUNK):
            self._screen(new[start : start + _CHUNK], stop, {"batch": self._batch}, asking_s)
        return Step(self._ledger.trials - trials, self._ledger.numbered - written, exhausted=False)

    def restore_rest(self) -> None:
        """Take over what is left of a search that was cut off: it will not be gone over."""
        for candidate, measurement in self._cut.items():
            self._take(candidate, measurement)
        self._batch = max([self._batch, *(_batch_of(m) for c, m in self._cut.items() if not c.is_default)])
        self._cut.clear()

    def _take(self, candidate: Candidate, measurement: Measurement) -> None:
        """A screening that was made before."""
        self._ledger.restore(measurement)
        self._hear(candidate, measurement)

    def _hear(self, candidate: Candidate, measurement: Measurement) -> None:
        self.screened[candidate] = measurement
        if not candidate.is_default:
            self._strategy.tell(candidate, measurement)

    def _screen(
        self,
        proposals: Sequence[Proposal],
        stop: Callable[[], bool],
        labels: Mapping[str, int],
        asking_s: float = 0.0,
    ) -> None:
        began = time.monotonic()
        new = [p.candidate for p in proposals if p.candidate not in self._cut]
        made = dict(zip(new, self._builder.build(self.task, new, stop), strict=False)) if new else {}
        share_s = asking_s + (time.monotonic() - began) / max(len(made), 1)
        for proposal in proposals:
            if proposal.candidate in self._cut:
                self._take(proposal.candidate, self._cut.pop(proposal.candidate))
                continue
            built = made.get(proposal.candidate)
            if built is None or stop():
                break
            measurement = self._measure(proposal.candidate, built, self._screen_policy(), self._ledger.seed)
            measurement = dataclasses.replace(
                measurement,
                build_s=built.build_s,
                # a replayed measurement brings its cost along
                conditions={"cost_s": share_s + measurement.run_s, **measurement.conditions, **labels},
            )
            row = self._features.get(proposal.candidate)
            self._ledger.write(self.task, proposal, measurement, () if row is None else row.tolist())
            self._hear(proposal.candidate, measurement)
        self._drop_losers()

    def _screen_policy(self) -> Policy:
        best = self.best_s
        if best is None:
            return SCREEN
        return dataclasses.replace(SCREEN, give_up_above_s=GIVE_UP * best, enough_above_s=NO_FINALIST * best)

    def _measure(self, candidate: Candidate, built: Artifact | BuildFailure, policy: Policy, seed: int) -> Measurement:
        """What became of a candidate. Raises OutputError where it failed for want of room on the disk."""
        measurement = self._judge(candidate, built, policy, seed)
        if measurement.status in (Status.BUILD_FAILED, Status.RUN_FAILED):
            require_room(self._folder)  # before the candidate is blamed for good
        return measurement

    def _judge(self, candidate: Candidate, built: Artifact | BuildFailure, policy: Policy, seed: int) -> Measurement:
        if isinstance(built, BuildFailure):
            return Measurement(built.status, fidelity=policy.fidelity, reason=built.reason)
        self._artifacts[candidate] = built
        job = self._job(built, policy.fidelity, seed)
        if isinstance(job, Measurement):
            return job
        if candidate.is_default:
            policy = dataclasses.replace(policy, give_up_above_s=None, enough_above_s=None)
        measurement = self._bench.measure(job, policy)
        if measurement.ok and measurement.median_s < self._lower_bound_s:
            measurement = Measurement(
                Status.SUSPECT,
                fidelity=policy.fidelity,
                reason=f"{measurement.median_s:.3g} s is under the physical floor of {self._lower_bound_s:.3g} s",
                run_s=measurement.run_s,
            )
        return measurement

    def _job(self, built: Artifact, fidelity: Fidelity, seed: int) -> dict[str, Any] | Measurement:
        """What the bench needs to run an artifact, or the failure where there is nothing to check it against."""
        if seed not in self._references:
            return Measurement(
                Status.RUN_FAILED, fidelity=fidelity, reason=f"no reference to check against: {self.unverified}"
            )
        workload = self.task.workload
        other = self._other_seed(seed)
        again = (other, self._references[other]) if other in self._references else None
        return job_of(built, self.task.key, workload.inputs, workload.outputs, seed, self._references[seed], again)

    # --- the end ------------------------------------------------------------------------------------

    def rank(self, stop: Callable[[], bool]) -> None:
        """Measure the finalists again, longer. Known ranks are taken over."""
        self.ranked = self._again(self._finalists(), _RANK_KERNEL, self._ledger.seed, "finalist", stop)

    def _finalists(self) -> list[Candidate]:
        """The fastest screened ones."""
        screened = [(m.median_s, i, c) for i, (c, m) in enumerate(self.screened.items()) if m.ok and not c.is_default]
        return [c for _, _, c in sorted(screened)[:FINALISTS]]

    def certify(self, stop: Callable[[], bool], budget_s: float) -> None:
        """One process's part of measuring the finalists and the untuned program again, on fresh inputs.

        Call it once for each of several processes (the bench renewed before each), then `settle`. `budget_s` is
        for this part. Nothing is measured where an earlier run did it all.
        """
        if stop() or self.certified:
            return
        if self._certification is None:
            self._begin_certification(stop)
        if self._certification is not None:
            self._certification.measure(self._bench, budget_s)

    def settle(self) -> None:
        """Pool what the processes found, store it, and let it decide on the winner."""
        if self._certification is None or not self._certification.processes:
            return
        self.certified = self._certification.settle(self._lower_bound_s)
        for candidate, measurement in self.certified.items():
            self._ledger.write(self.task, Proposal(candidate, "certification"), measurement)

    def _begin_certification(self, stop: Callable[[], bool]) -> None:
        wanted = [*sorted((c for c, m in self.ranked.items() if m.ok), key=lambda c: self.ranked[c].median_s)]
        wanted = [*(wanted or self._finalists()), self.space.default()]
        known = {c: m for c in wanted if (m := self._known.get((c.to_text(), Fidelity.CERTIFY))) is not None}
        session_ids = {m.conditions.get("certification") for m in known.values() if m.ok}
        if len(known) == len(wanted) and len(session_ids) <= 1 and None not in session_ids:
            self.certified = known
            return
        seed = self._ledger.seed + 1
        self._prepare_reference(seed)
        jobs: dict[Candidate, dict[str, Any]] = {}
        failed: dict[Candidate, Measurement] = {}
        for candidate, built in zip(wanted, self._built(wanted, stop), strict=False):
            if isinstance(built, BuildFailure):
                failed[candidate] = Measurement(built.status, fidelity=Fidelity.CERTIFY, reason=built.reason)
            elif isinstance(job := self._job(built, Fidelity.CERTIFY, seed), Measurement):
                failed[candidate] = job
            else:
                jobs[candidate] = job
        self._certification = Certification(f"{self._ledger.run_id}/{self.task.key}", wanted, jobs, failed)

    def _again(
        self, candidates: Sequence[Candidate], policy: Policy, seed: int, proposer: str, stop: Callable[[], bool]
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
            self._prepare_reference(seed)
            for candidate, built in zip(missing, self._built(missing, stop), strict=False):
                if stop():
                    break
                measurement = self._measure(candidate, built, policy, seed)
                results[candidate] = measurement
                self._ledger.write(self.task, Proposal(candidate, proposer), measurement)
        return {c: results[c] for c in candidates if c in results}

    def object_of(self, candidate: Candidate) -> tuple[str, Path] | None:
        """(symbol, object file) of a candidate, built again when it is no longer there; None when that fails."""
        built = next(iter(self._built([candidate], lambda: False)), None)
        return (built.entry, built.path.with_suffix(".o")) if isinstance(built, Artifact) else None

    # --- files --------------------------------------------------------------------------------------

    def _built(self, candidates: Sequence[Candidate], stop: Callable[[], bool]) -> list[Artifact | BuildFailure]:
        gone = [c for c in candidates if c not in self._artifacts or not self._artifacts[c].path.exists()]
        made = dict(zip(gone, self._builder.build(self.task, gone, stop), strict=False)) if gone else {}
        self._artifacts.update({c: b for c, b in made.items() if isinstance(b, Artifact)})
        found: list[Artifact | BuildFailure] = []
        for candidate in candidates:
            built = made.get(candidate) or self._artifacts.get(candidate)
            if built is None:
                break
            found.append(built)
        return found

    def _drop_losers(self) -> None:
        """Delete what was built, save for the default and the few fastest."""
        timed = sorted((m.median_s, i, c) for i, (c, m) in enumerate(self.screened.items()) if m.ok)
        keep = {c for _, _, c in timed[:_KEEP_BUILT]} | {self.space.default()}
        for candidate in [c for c in self._artifacts if c not in keep]:
            artifact = self._artifacts.pop(candidate)
            artifact.path.unlink(missing_ok=True)
            artifact.path.with_suffix(".o").unlink(missing_ok=True)

    def _other_seed(self, seed: int) -> int:
        """The seed of the check after timing: search and certification have each other's."""
        return self._ledger.seed + 1 if seed == self._ledger.seed else self._ledger.seed

    def _prepare_reference(self, seed: int) -> None:
        """Independent results for the inputs of a seed and of its other; the untuned build's where there are none."""
        wanted = [s for s in (seed, self._other_seed(seed)) if s not in self._references]
        if not wanted or (self.unverified and "untuned" not in self.unverified):
            return
        found = self._builder.reference(self.task, wanted, self._folder)
        if not isinstance(found, str):
            self._references.update(found)
            return
        self.unverified = f"untuned build as reference: {found}"
        built = next(iter(self._built([self.space.default()], lambda: False)), None)
        if not isinstance(built, Artifact):
            self.unverified = f"nothing to check against: {found}"
            return
        workload = self.task.workload
        for one in wanted:
            reference = Reference(self._folder / f"{self.task.key}-{one}.npz", workload.outputs[-1].dtype, 1)
            job = job_of(built, self.task.key, workload.inputs, workload.outputs, one, reference)
            failure = self._bench.store_outputs(job, reference.path)
            if failure is not None:
                self.unverified = f"nothing to check against: {failure}"
                return
            self._references[one] = reference


def _batch_of(measurement: Measurement) -> int:
    """The batch of its task in which a candidate was screened; 0 where it was probed, or where nothing says so."""
    number = measurement.conditions.get("batch")
    return number if isinstance(number, int) else 0
