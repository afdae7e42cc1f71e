"""The summary of a run, as summary.json (schema 1) has it, and its headline for the terminal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuner.caveats import MEASURED, Caveat, Caveats
from tuner.devices import resolve
from tuner.devices.device import ON_TENSOR_CORES
from tuner.measure.metadata import metadata_lines
from tuner.measure.pooled import compare_measurements
from tuner.measure.stats import Verdict, median, median_interval, unpaired_verdict
from tuner.records import Label, Measurement
from tuner.report import end_to_end, islands, precision, units
from tuner.report.summary import NOT_TUNED, SCHEMA

if TYPE_CHECKING:
    from kernels.space import Candidate
    from tuner.config import RunConfig
    from tuner.devices.target import ResolvedTarget
    from tuner.measure.comparison import ComparisonResult
    from tuner.measure.models import ModelComparison
    from tuner.models import ImportedModel, LayerPrecision
    from tuner.protocols import Task
    from tuner.tuning.session import TaskSession
    from tuner.tuning.tune import SearchResult
    from tuner.tuning.untuned import Untuned


@dataclass
class RunFacts:
    """Everything that the summary of a run is made from. `account` is that of `commands.profile`; `lower_bounds_s` are
    those of one call, by task key; `inputs` says where the model's inputs are from, and `untuned` how the kernels that
    keep TVM's own program were checked."""

    run_id: str
    command: str
    config: RunConfig
    model: ImportedModel
    target: ResolvedTarget
    search: SearchResult
    ceilings: Mapping[str, Any]
    environment: dict[str, Any]
    search_s: float
    kernel_baselines: Mapping[str, Mapping[str, Sequence[float]]]
    notes: list[str] = field(default_factory=list)
    comparison: ModelComparison | None = None
    manifest: dict[str, Any] | None = None
    wall_s: float = 0.0
    account: Mapping[str, Any] | None = None
    lower_bounds_s: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Any] | None = None
    untuned: dict[str, Untuned] = field(default_factory=dict)

    def not_tuned(self) -> dict[str, TaskSession]:
        """The sessions of kernels that keep TVM's own program, those that take most of the model's time first."""
        tuned = self.winners()
        kept = [s for key, s in self.search.sessions.items() if key not in tuned]
        return {s.task.key: s for s in sorted(kept, key=lambda s: -s.task.weight * (s.best_s or 0.0))}

    def winners(self) -> dict[str, Candidate]:
        """The candidate that replaces each kernel: only where it is not slower than the default."""
        chosen = {}
        for key, session in self.search.sessions.items():
            best = session.best
            if best is not None and _replaces_default(kernel_verdict(session)):
                chosen[key] = best
        return chosen

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the run used."""
        packages = self.environment.get("packages", {})
        return {str(n): str(version) for n, version in packages.items()} if isinstance(packages, Mapping) else {}


def _replaces_default(verdict: Verdict) -> bool:
    faster = (verdict.ratio or 1.0) < 1.0
    return verdict.label is Label.FASTER or (verdict.label is Label.UNDECIDED and faster)


def headline(summary: Mapping[str, Any]) -> list[str]:
    """A few lines for the terminal: the tuned model's time, and the verdict on it against untuned TVM and baselines, in
    each state of the machine."""
    whole, search = summary["end_to_end"], summary["search"]
    if whole["tuned_s"] is None:
        return ["the tuned model was not timed; see the notes in the report"]
    tuned, *others = end_to_end.entries(summary)
    caveats = Caveats.of_summary(summary)
    lines = [
        f"{summary['model']['name']}: {caveats.model.beside(_milliseconds(tuned.median_s))}"
        f"{units.in_state(whole['state'])}, {'verified' if whole['verified'] else 'NOT verified'}"
    ]
    lines += [_against(entry, caveats.model) for entry in others if entry.median_s is not None]
    for state, (first, *rest) in end_to_end.other_states(summary).items():
        lines.append(f"{caveats.model.beside(_milliseconds(first.median_s))}{units.in_state(state)}")
        lines += [_against(entry, caveats.model) for entry in rest]
    lines += caveats.sentences
    lines += [said] if (said := islands.sentence(summary)) else []
    lines += precision.sentences(summary) if precision.stated(summary) else []
    lines.append(
        f"search: {end_to_end.measurements(search)}, {search['reused']} reused, {search['wall_s']:.0f} s, "
        f"stopped by {search['stopped_by']}"
    )
    return lines


def _against(entry: end_to_end.Entry, caveat: Caveat) -> str:
    """One entry's median, and the verdict on the tuned model against it with the speedup of the same comparison."""
    name = entry.name if entry.key == end_to_end.UNTUNED else f"{entry.key}{entry.across}"
    words = "" if not caveat.words else f", {caveat.words}"
    start = f"  against {name} ({_milliseconds(entry.median_s)}{words}): {entry.label}"
    if entry.speedup is None:
        return f"{start}, too few pairs for a speedup"
    return f"{start}, speedup {entry.speedup:.3g}x"


def _milliseconds(seconds: float | None) -> str:
    return units.MISSING if seconds is None else f"{1e3 * seconds:.4g} ms"


def _final(session: TaskSession, candidate: Candidate | None) -> Measurement | None:
    """The measurement of a candidate at its highest fidelity; None where that failed."""
    if candidate is None:
        return None
    for measured in (session.certified, session.ranked, session.screened):
        measurement = measured.get(candidate)
        if measurement is not None:
            return measurement if measurement.ok else None
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
    samples = tuned.samples_s if tuned is not None else ()
    searched_s = None if winner is None else session.searched_s(winner)
    baselines = facts.kernel_baselines.get(task.key, {})
    verdict = kernel_verdict(session)
    return {
        "task": task.key,
        "name": task.name,
        "weight": task.weight,
        "flops": task.workload.flops,
        "bytes": task.workload.bytes,
        "arithmetic": _arithmetic(session, winner),
        "shape": "" if task.workload.origin else ", ".join("x".join(map(str, s.shape)) for s in task.workload.args),
        "untuned_s": session.untuned_s,
        "tuned_s": None if tuned is None else tuned.median_s,
        "interval_s": _interval(samples),
        "baselines": {name: median(times) for name, times in baselines.items()},
        "baseline_verdicts": {n: unpaired_verdict(samples, times).label.value for n, times in baselines.items()},
        "verified": _verified(session, tuned, facts.untuned.get(task.key)),
        "verdict": NOT_TUNED if session.best is None else verdict.label.value,
        "ratio": None if session.best is None else verdict.ratio,
        "candidate": None if winner is None else winner.to_text(),
        "algorithm": task.workload.origin.get("algorithm", "direct" if task.key in facts.search.algorithms else None),
        "algorithms": dict(facts.search.algorithms.get(task.key, {})),
        "searched_s": searched_s,
        "remeasurement_shift": None if tuned is None or searched_s is None else tuned.median_s / searched_s - 1.0,
        "ties": [] if winner is None else [tie.to_text() for tie in session.ties()],
        "metadata": None if tuned is None else dict(metadata_lines(tuned)),
        "lower_bound_s": facts.lower_bounds_s.get(task.key),
        "cold_bytes": _cold_bytes(task, facts.ceilings),
        **_kept(winner, facts.untuned.get(task.key)),
    }


def _arithmetic(session: TaskSession, winner: Candidate | None) -> str:
    """What a kernel computes in, as ceilings name their peaks: a dtype, and whether on tensor cores."""
    dtype = session.task.workload.arithmetic
    number = None if winner is None or winner.is_default else winner.sketch
    model = next((sketch.gpu for sketch in session.space.sketches if sketch.number == number), None)
    return f"{dtype}{ON_TENSOR_CORES}" if model is not None and model.tensor_cores else dtype


def _kept(winner: Candidate | None, untuned: Untuned | None) -> dict[str, str]:
    """What is in the model for a kernel that keeps TVM's own program, where it was checked."""
    if winner is not None or untuned is None or untuned.candidate is None:
        return {}
    return {"untuned_candidate": untuned.candidate.to_text()}


def _cold_bytes(task: Task, ceilings: Mapping[str, Any]) -> int | None:
    """Bytes of a kernel's constants that the caches do not hold when a model calls it; None where that is not known."""
    cache = ceilings.get("cache_bytes")
    if cache is None:
        return None
    constants = task.constants
    if constants.model_bytes <= cache:
        return 0
    return sum(task.workload.args[position].nbytes for position in constants.positions)


def _verified(session: TaskSession, tuned: Measurement | None, untuned: Untuned | None) -> bool | None:
    """Whether the outputs of a kernel, as it is in the model, are right; None where there was nothing independent to
    check them against, or where it was not checked."""
    if session.unverified:
        return None
    if tuned is not None:
        return True
    return None if untuned is None else untuned.verified


def _interval(samples: Sequence[float]) -> list[float] | None:
    interval = median_interval(samples)
    return None if interval is None else list(interval)


def _end_to_end(comparison: ModelComparison | None) -> dict[str, Any]:
    from tuner.measure.models import TUNED, UNTUNED

    if comparison is None:
        return {
            "untuned_s": None, "tuned_s": None, "interval_s": None, "baselines": {}, "verified": False,
            "max_abs_error": None, "max_rel_error": None,
        }  # fmt: skip
    result = comparison.result
    state, main = result.main(TUNED)
    entries, other = _entries(main), _entries(result)
    mixed = [name for name in other if name not in entries]
    entries |= {name: other[name] for name in mixed}  # slow ones may have no block in the main state
    tuned, untuned = entries.pop(TUNED, None), entries.get(UNTUNED)
    return {
        "untuned_s": untuned["median_s"] if untuned else None,
        "tuned_s": tuned["median_s"] if tuned else None,
        "interval_s": tuned["interval_s"] if tuned else None,
        "baselines": {
            name: {"median_s": entry["median_s"], "interval_s": entry["interval_s"]}
            for name, entry in entries.items()
            if name != UNTUNED
        },
        "verified": comparison.verified,
        "max_abs_error": _finite(comparison.max_abs_error),
        "max_rel_error": _finite(comparison.max_rel_error),
        "verdicts": {name: entry["verdict"] for name, entry in entries.items() if tuned},
        "ratios": {name: entry["ratio"] for name, entry in entries.items() if tuned},
        "noise_floor": _finite(main.noise_floor),
        "state": state,
        "mixed": mixed,
        "states": {
            name: {
                "round_trip_s": result.round_trips_s.get(name),
                "noise_floor": _finite(view.noise_floor),
                "entries": _entries(view),
            }
            for name, view in result.by_state().items()
        },
        "first_calls": _entries(main.first_call()),
        "load_s": comparison.load_s,
        "peak_bytes": comparison.peak_bytes,
    }


def _entries(result: ComparisonResult) -> dict[str, dict[str, Any]]:
    """By entry its time, and the verdict on the tuned model against it with the ratio of the same pairs."""
    from tuner.measure.models import TUNED

    timed = {name: samples for name, samples in result.seconds.items() if samples}
    entries = {}
    for name, samples in timed.items():
        verdict = result.verdict(TUNED, name) if name != TUNED and TUNED in timed else None
        entries[name] = {
            "median_s": median(samples),
            "interval_s": _interval(samples),
            "verdict": None if verdict is None else verdict.label.value,
            "ratio": None if verdict is None else verdict.ratio,
        }
    return entries


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _verdict_notes(comparison: ModelComparison | None) -> list[str]:
    from tuner.measure.models import TUNED

    if comparison is None or TUNED not in comparison.result.seconds:
        return []
    state, result = comparison.result.main(TUNED)
    where = "" if state is None else f", CPUs {state}"
    notes = [f"A/A noise floor of the whole-model comparison{where}: {result.noise_floor:.2%}"]
    return [*notes, *(f"{name}: {settings}" for name, settings in comparison.settings.items())]


def summarize(facts: RunFacts) -> dict[str, Any]:
    """The summary of a run, as JSON-able data."""
    from tuner.tuning.phase import failures

    winners, sessions, manifest = facts.winners(), facts.search.sessions, facts.manifest
    return {
        "schema": SCHEMA,
        "run_id": facts.run_id,
        "command": facts.command,
        "seed": facts.config.search.seed,
        "model": {
            "name": facts.model.name,
            "source": facts.model.source,
            "batch": facts.config.model.batch,
            "inputs": {spec.name: list(spec.shape) for spec in facts.model.inputs},
        },
        "inputs": facts.inputs,
        "target": {
            "kind": facts.target.kind,
            "device": facts.target.device,
            "threads": facts.target.threads,
            "features": list(facts.target.features),
            "caveats": resolve.caveats_of(facts.target).to_json(),
        },
        "search": {
            "strategy": facts.config.search.strategy,
            "trials": sum(session.trials for session in facts.search.searched.values()),
            "measured": facts.search.ledger.measured,
            "counts": dict(facts.search.ledger.counts),
            "reused": facts.search.ledger.reused,
            "failed": failures(facts.search.searched),
            "wall_s": facts.search_s,
            "stopped_by": facts.search.stopped_by,
        },
        "kernels": [_kernel(facts, session, winners.get(key)) for key, session in sessions.items()],
        "end_to_end": _end_to_end(facts.comparison),
        "export": None if manifest is None else {"path": manifest["path"], "sha256": manifest["sha256"]},
        "environment": facts.environment,
        "ceilings": {
            "peak_flops_per_s": facts.ceilings["peak_flops_per_s"],
            "bandwidth_bytes_per_s": facts.ceilings["bandwidth_bytes_per_s"],
            "peaks": facts.ceilings["peaks"],
            "levels": facts.ceilings["levels"],
            "source": facts.ceilings.get("source", MEASURED),
        },
        "account": None if facts.account is None else dict(facts.account),
        **_precision(facts),
        **_parts(facts),
        "notes": _notes(facts),
    }


def _layer(layer: LayerPrecision) -> dict[str, Any]:
    error = layer.error
    known = error if error is not None and math.isfinite(error) else None
    return {"name": layer.name, "precision": layer.precision, "error": known}


def _precision(facts: RunFacts) -> dict[str, Any]:
    """In what the model's layers compute and how good it is, where it was made narrower or something was asked."""
    reduced, comparison = facts.model.reduced, facts.comparison
    judged = None if comparison is None else comparison.quality
    if reduced is None and judged is None:
        return {}
    return {
        "precision": {
            "asked": facts.config.precision,
            "layers": [] if reduced is None else [_layer(layer) for layer in reduced.layers],
            "quality": None if judged is None else judged.to_json(),
            "entries": {} if comparison is None else dict(comparison.precisions),
            "errors": {} if comparison is None else dict(comparison.errors),
            "mixes": [] if reduced is None else [{"seconds": s, "error": e} for s, e in reduced.mixes],
        }
    }


def _parts(facts: RunFacts) -> dict[str, Any]:
    """The parts of a model with islands, with their times where the tuned model ran."""
    plan = facts.model.plan
    if plan is None:
        return {}
    seconds = facts.comparison.segments_s if facts.comparison is not None else []
    return {
        "parts": [
            {
                "kind": "tuned" if segment.island is None else "island",
                "seconds": seconds[number] if seconds else None,
                "nodes": [dataclasses.asdict(node) for node in segment.nodes],
            }
            for number, segment in enumerate(plan.segments)
        ]
    }


def _notes(facts: RunFacts) -> list[str]:
    return [
        f"graph configuration: {facts.search.lowered.config.to_text()}",
        f"whole run: {facts.wall_s:.0f} s",
        *(facts.comparison.notes if facts.comparison is not None else ()),
        *_verdict_notes(facts.comparison),
        *(f"{s.task.name}: {s.unverified}" for s in facts.search.sessions.values() if s.unverified),
        *facts.notes,
    ]
