"""From what a run found to summary.json (schema 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuner.measure.metadata import metadata_lines
from tuner.measure.pooled import compare_measurements
from tuner.measure.stats import Verdict, median, median_interval, unpaired_verdict
from tuner.records import Label, Measurement

if TYPE_CHECKING:
    from kernels.space import Candidate
    from tuner.config import RunConfig
    from tuner.devices.resolve import ResolvedTarget
    from tuner.measure.models import ModelComparison
    from tuner.protocols import ImportedModel
    from tuner.tuning.phase import SearchResult
    from tuner.tuning.session import Ledger, TaskSession


@dataclass
class RunFacts:
    """Everything a finished run knows, before it is written down."""

    run_id: str
    command: str
    config: RunConfig
    model: ImportedModel
    target: ResolvedTarget
    found: SearchResult
    ledger: Ledger
    ceilings: dict[str, Any]
    environment: dict[str, Any]
    search_s: float
    kernel_baselines: Mapping[str, Mapping[str, Sequence[float]]]
    notes: list[str] = field(default_factory=list)
    contest: ModelComparison | None = None
    manifest: dict[str, Any] | None = None
    wall_s: float = 0.0

    def winners(self) -> dict[str, Candidate]:
        """The candidate that replaces each kernel: only where it is not slower than the default."""
        chosen = {}
        for key, session in self.found.sessions.items():
            best = session.best
            if best is None:
                continue
            verdict = kernel_verdict(session)
            if verdict.label == "FASTER" or (verdict.label == "UNDECIDED" and (verdict.ratio or 1.0) < 1.0):
                chosen[key] = best
        return chosen

    def versions(self) -> dict[str, str]:
        found = self.environment.get("packages", {})
        return {str(name): str(version) for name, version in found.items()} if isinstance(found, Mapping) else {}

    def headline(self, summary: Mapping[str, Any]) -> list[str]:
        """A few lines for the terminal."""
        whole = summary["end_to_end"]
        if whole["tuned_s"] is None:
            return ["the tuned model was not timed; see the notes in the report"]
        lines = [
            f"{summary['model']['name']}: {1e3 * whole['tuned_s']:.4g} ms"
            + (", verified" if whole["verified"] else ", NOT verified")
        ]
        if whole["untuned_s"]:
            lines.append(
                f"  {whole['untuned_s'] / whole['tuned_s']:.3g}x as fast as untuned TVM "
                f"({1e3 * whole['untuned_s']:.4g} ms): {whole['verdicts'].get('untuned', 'UNDECIDED')}"
            )
        for name, rival in whole["baselines"].items():
            lines.append(
                f"  {rival['median_s'] / whole['tuned_s']:.3g}x as fast as {name} ({1e3 * rival['median_s']:.4g} ms): "
                f"{whole['verdicts'].get(name, 'UNDECIDED')}"
            )
        search = summary["search"]
        lines.append(
            f"search: {search['measured']} measurements, {search['reused']} reused, {search['wall_s']:.0f} s, "
            f"stopped by {search['stopped_by']}"
        )
        return lines


def _final(session: TaskSession, candidate: Candidate | None) -> Measurement | None:
    """The most careful good measurement of a candidate."""
    if candidate is None:
        return None
    for measured in (session.certified, session.ranked, session.screened):
        found = measured.get(candidate)
        if found is not None:
            return found if found.ok else None
    return None


def kernel_verdict(session: TaskSession) -> Verdict:
    """The winner against the default schedule; FASTER, with no ratio, where the default does not even run."""
    tuned, untuned = _final(session, session.best), _final(session, session.space.default())
    if tuned is None:
        return Verdict(Label.UNDECIDED, None, None)
    return compare_measurements(tuned, untuned) if untuned is not None else Verdict(Label.FASTER, None, None)


def _kernel(facts: RunFacts, session: TaskSession, winner: Candidate | None) -> dict[str, Any]:
    task = session.task
    tuned = _final(session, winner)
    interval = median_interval(tuned.samples_s) if tuned is not None else None
    searched_s = None if winner is None else session.searched_s(winner)
    rivals = facts.kernel_baselines.get(task.key, {})
    return {
        "task": task.key,
        "name": task.name,
        "weight": task.weight,
        "flops": task.workload.flops,
        "bytes": task.workload.bytes,
        "shape": "" if task.workload.origin else ", ".join("x".join(map(str, s.shape)) for s in task.workload.args),
        "untuned_s": session.untuned_s,
        "tuned_s": None if tuned is None else tuned.median_s,
        "interval_s": None if interval is None else list(interval),
        "baselines": {name: median(samples) for name, samples in rivals.items()},
        "baseline_verdicts": {
            name: unpaired_verdict(tuned.samples_s if tuned else (), samples).label.value
            for name, samples in rivals.items()
        },
        "verified": tuned is not None and not session.unverified,
        "verdict": "NOT TUNED" if session.best is None else kernel_verdict(session).label.value,
        "candidate": None if winner is None else winner.to_text(),
        "searched_s": searched_s,
        "remeasurement_shift": None if tuned is None or searched_s is None else tuned.median_s / searched_s - 1.0,
        "ties": [] if winner is None else [tie.to_text() for tie in session.ties()],
        "certificate": None if tuned is None else dict(metadata_lines(tuned)),
    }


def _end_to_end(facts: RunFacts) -> dict[str, Any]:
    from tuner.measure.models import TUNED, UNTUNED

    empty: dict[str, Any] = {
        "untuned_s": None, "tuned_s": None, "interval_s": None, "baselines": {}, "verified": False,
        "max_abs_error": None, "max_rel_error": None,
    }  # fmt: skip
    contest = facts.contest
    if contest is None:
        return empty
    seconds = {name: s for name, s in contest.result.seconds.items() if s}
    baselines = {}
    for name, samples in seconds.items():
        if name not in (TUNED, UNTUNED):
            interval = median_interval(samples)
            baselines[name] = {"median_s": median(samples), "interval_s": None if interval is None else list(interval)}
    tuned = seconds.get(TUNED)
    interval = median_interval(tuned) if tuned else None
    return {
        "untuned_s": median(seconds[UNTUNED]) if UNTUNED in seconds else None,
        "tuned_s": median(tuned) if tuned else None,
        "interval_s": None if interval is None else list(interval),
        "baselines": baselines,
        "verified": contest.verified,
        "max_abs_error": contest.max_abs_error,
        "max_rel_error": contest.max_rel_error,
        "verdicts": {n: contest.result.verdict(TUNED, n).label.value for n in seconds if n != TUNED and tuned},
        "noise_floor": contest.result.noise_floor if math.isfinite(contest.result.noise_floor) else None,
    }


def _verdict_notes(facts: RunFacts) -> list[str]:
    from tuner.measure.models import TUNED

    contest = facts.contest
    if contest is None or TUNED not in contest.result.seconds:
        return []
    notes = [f"A/A noise floor of the whole-model comparison: {contest.result.noise_floor:.2%}"]
    for name in contest.result.seconds:
        if name != TUNED and contest.result.seconds[name]:
            verdict = contest.result.verdict(TUNED, name)
            ratio = "" if verdict.ratio is None else f" (time ratio {verdict.ratio:.3f})"
            notes.append(f"tuned against {name}: {verdict.label.value}{ratio}")
    notes.extend(f"{name}: {settings}" for name, settings in contest.settings.items())
    return notes


def summarize(facts: RunFacts) -> dict[str, Any]:
    """The summary of a run, as JSON-able data."""
    from tuner.tuning.phase import failures

    winners = facts.winners()
    kernels = [_kernel(facts, session, winners.get(key)) for key, session in facts.found.sessions.items()]
    contest_notes = list(facts.contest.notes) if facts.contest is not None else []
    unverified = [f"{s.task.name}: {s.unverified}" for s in facts.found.sessions.values() if s.unverified]
    return {
        "schema": 1,
        "run_id": facts.run_id,
        "command": facts.command,
        "seed": facts.config.search.seed,
        "model": {
            "name": facts.model.name,
            "source": facts.model.source,
            "batch": facts.config.model.batch,
            "inputs": {spec.name: list(spec.shape) for spec in facts.model.inputs},
        },
        "target": {
            "kind": facts.target.kind,
            "device": facts.target.device,
            "threads": facts.target.threads,
            "features": list(facts.target.features),
        },
        "search": {
            "strategy": facts.config.search.strategy,
            "trials": sum(s.trials for s in facts.found.sessions.values()),
            "measured": facts.ledger.measured,
            "reused": facts.ledger.reused,
            "failed": failures(facts.found.sessions),
            "wall_s": facts.search_s,
            "stopped_by": facts.found.stopped_by,
        },
        "kernels": kernels,
        "end_to_end": _end_to_end(facts),
        "export": None
        if facts.manifest is None
        else {"path": facts.manifest["path"], "sha256": facts.manifest["sha256"]},
        "environment": facts.environment,
        "ceilings": {
            "peak_flops_per_s": facts.ceilings["peak_flops_per_s"],
            "bandwidth_bytes_per_s": facts.ceilings["bandwidth_bytes_per_s"],
            "peaks": facts.ceilings["peaks"],
            "levels": facts.ceilings["levels"],
        },
        "notes": [
            f"graph configuration: {facts.found.lowered.config.to_text()}",
            f"whole run: {facts.wall_s:.0f} s",
            *contest_notes,
            *_verdict_notes(facts),
            *unverified,
            *facts.notes,
        ],
    }
