"""`compare`: A against B, measured interleaved: two exported models, or two trials of one kernel."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner import config as config_file
from tuner import environment
from tuner.caveats import NONE, Caveat
from tuner.commands import show
from tuner.commands.prepare import open_store, task_of
from tuner.devices import resolve
from tuner.errors import InfrastructureError, UserError
from tuner.importers import model_inputs
from tuner.measure.comparison import BenchmarkEntry, ComparisonResult, compare_interleaved
from tuner.measure.models import compiled_entry
from tuner.measure.stats import Verdict, median, median_interval, noise_floor, verdict
from tuner.models import InputSpec
from tuner.outputs import check_outputs
from tuner.progress import Progress, milliseconds
from tuner.protocols import CERTIFY, Artifact, Bench, Job, Task, job_of
from tuner.records import CpuState, Fidelity, Measurement, Record

if TYPE_CHECKING:
    from tuner.devices.device import Device
    from tuner.measure.states import StateProbe
    from tuner.process.worker import Child
    from tuner.protocols import Array

PROCESSES = 5
"""Fresh processes for each of the two: with as many, the variation between processes is known from the data."""

_PREPARE_S = 300.0
_LEAST_ROUNDS = 4
_HOST = "llvm"  # exported models are timed on this machine's CPU
_RTOL, _ATOL = 1e-3, 1e-4


@dataclass(frozen=True)
class Operand:
    """A or B: its name on the command line, and the export's folder, or the trial's record and the run's folder."""

    name: str
    export: Path | None = None
    record: Record | None = None
    run: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of both, the verdict on A, the A/A noise floor (a log ratio), further sentences, the state of
    the machine that all of it is of, None where there is but one, and what the times are."""

    a: Sequence[float]
    b: Sequence[float]
    verdict: Verdict
    noise_floor: float
    notes: tuple[str, ...] = ()
    state: CpuState | None = None
    caveat: Caveat = NONE

    def rows(self, names: tuple[str, str]) -> list[list[str]]:
        """A table: the median of each, and its 95 % interval."""
        table = []
        for letter, name, samples in zip("AB", names, (self.a, self.b), strict=True):
            interval = median_interval(samples)
            ends = "" if interval is None else f" [{milliseconds(interval[0])}, {milliseconds(interval[1])}]"
            time = self.caveat.beside(f"{milliseconds(median(samples))}{ends}")
            table.append([letter, name, f"{time}, {len(samples)} samples"])
        return table

    def sentence(self) -> str:
        """The verdict in words."""
        label, ratio, interval = self.verdict.label, self.verdict.ratio, self.verdict.interval
        against = self.caveat.beside("A against B") + ("" if self.state is None else f", CPUs {self.state}")
        if ratio is None or interval is None:
            return f"{against}: {label} (too few pairs)"
        return (
            f"{against}: {label}; A takes {ratio:.4f} of B's time, 95 % interval "
            f"{interval[0]:.4f} to {interval[1]:.4f}, A/A floor {self.noise_floor:.2%}"
        )


def compare(a: str, b: str, out: str, budget_s: float, progress: Progress) -> tuple[list[list[str]], list[str]]:
    """A table of both, and the sentences under it. `a`, `b`: a run, a run's trial (`RUN:TRIAL`), or an export folder.

    Raises UserError when one of them is not there or the two cannot be compared.
    """
    environment.check_versions()
    first, second = _operand(a, out, progress), _operand(b, out, progress)
    if first.record is not None and second.record is not None:
        comparison = _compare_trials(first, second, budget_s, progress)
    elif first.export is not None and second.export is not None:
        return _compare_exports(first, second, out, budget_s, progress)
    else:
        raise UserError(f"{a} and {b}: one is a kernel's trial, the other a whole model", "compare two of one kind")
    return comparison.rows((first.name, second.name)), [comparison.sentence(), *comparison.notes]


def _operand(name: str, out: str, progress: Progress) -> Operand:
    from tuner.export.library import MANIFEST

    if (Path(name) / MANIFEST).is_file():
        return Operand(name, export=Path(name))
    run, colon, trial = name.partition(":")
    folder = show.find(out, run)
    if colon:
        return Operand(name, record=_record(folder, trial, progress), run=folder)
    if not (folder / "export" / MANIFEST).is_file():
        raise UserError(f"{folder.name}: it exported no model", f"python -m tuner export {folder.name}")
    return Operand(name, export=folder / "export")


def _record(run: Path, trial: str, progress: Progress) -> Record:
    with open_store(config_file.load(str(run / "config.yaml")), progress.message) as store:
        records = [
            r
            for r in store.read(run_id=run.name)
            if r.measurement.fidelity is Fidelity.SCREEN and str(r.trial) == trial
        ]
    if not records:
        raise UserError(f"{run.name}: no trial {trial!r}", f"their numbers: python -m tuner show --records {run.name}")
    return records[0]


# --- whole models ---------------------------------------------------------------------------------


def _compare_exports(
    first: Operand, second: Operand, out: str, budget_s: float, progress: Progress
) -> tuple[list[list[str]], list[str]]:
    """Two exports; of several shapes those that both have, each in its part of the time."""
    assert first.export is not None and second.export is not None
    pairs = of_one_shape(first.export, second.export)
    rows, sentences = [], []
    for shape, a, b in pairs:
        comparison = _compare_models(a, b, out, budget_s / len(pairs), progress)
        names = (first.name, second.name) if not shape else (f"{first.name} {shape}", f"{second.name} {shape}")
        rows += comparison.rows(names)
        start = f"{shape}: " if shape else ""
        sentences += [f"{start}{sentence}" for sentence in (comparison.sentence(), *comparison.notes)]
    return rows, sentences


def of_one_shape(a: Path, b: Path) -> list[tuple[str, Path, Path]]:
    """The parts of two exports that take the same inputs, with the name of their shape. Raises UserError for none."""
    from tuner.export.library import read_manifest
    from tuner.export.shapes import exports_of

    of_a, of_b = exports_of(a), exports_of(b)
    if "" in of_a and "" in of_b:
        return [("", a, b)]
    inputs = {folder: read_manifest(folder)["inputs"] for folder in (*of_a.values(), *of_b.values())}
    pairs = [
        (name or other, part, counterpart)
        for name, part in of_a.items()
        for other, counterpart in of_b.items()
        if inputs[part] == inputs[counterpart]
    ]
    if not pairs:
        raise UserError(f"{a} and {b}: they have no shape of inputs in common", "compare models of the same kind")
    return pairs


@dataclass
class _Pairs:
    """Seconds per call of A and B in the same rounds, those of A and its A/A control, and the process of each."""

    a: list[float] = field(default_factory=list)
    b: list[float] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    incumbent: list[float] = field(default_factory=list)
    control: list[float] = field(default_factory=list)
    control_processes: list[int] = field(default_factory=list)

    def add(self, process: int, result: ComparisonResult) -> None:
        """Raises InfrastructureError when one of the two failed."""
        if result.dropped:
            name, reason = next(iter(result.dropped.items()))
            raise InfrastructureError(f"{name} failed while it was timed: {reason}")
        a, b = result.pairs("A", "B")
        incumbent, control = result.aa_pairs
        self.a += a
        self.b += b
        self.processes += [process] * len(a)
        self.incumbent += incumbent
        self.control += control
        self.control_processes += [process] * len(incumbent)

    def comparison(self, state: CpuState | None) -> Comparison:
        floor = noise_floor(self.incumbent, self.control, groups=self.control_processes)
        return Comparison(self.a, self.b, verdict(self.a, self.b, floor, groups=self.processes), floor, state=state)


def _compare_models(a: Path, b: Path, out: str, budget_s: float, progress: Progress) -> Comparison:
    """In the state of the machine with the most pairs; the verdicts in others are among its notes."""
    _, _, threads = _both_exports(a, b)
    probe = resolve.kind_named(_HOST).state_probe(threads, Path(out))
    try:
        results, note = _models_timed(a, b, budget_s, probe, progress)
        if probe is not None:
            for result in results:  # by what all processes have seen
                result.tell_states(probe)
    finally:
        if probe is not None:
            probe.close()
    comparisons = [_pairs(views).comparison(state) for state, views in _by_state(results).items()]
    first, *others = sorted(comparisons, key=lambda comparison: -len(comparison.a))
    return dataclasses.replace(first, notes=(note, *(other.sentence() for other in others)))


def _by_state(results: Sequence[ComparisonResult]) -> dict[CpuState | None, list[ComparisonResult]]:
    """What each process measured in every state in which one of them measured enough; all of it where there is none."""
    states = dict.fromkeys(state for result in results for state in result.by_state())
    if not states:
        return {results[0].main("A", "B")[0]: list(results)}
    return {state: [result.within(state) for result in results] for state in states}


def _pairs(results: Sequence[ComparisonResult]) -> _Pairs:
    """Those of all processes, in order. Raises InfrastructureError when A or B failed."""
    pairs = _Pairs()
    for process, result in enumerate(results):
        pairs.add(process, result)
    return pairs


def _models_timed(
    a: Path, b: Path, budget_s: float, probe: StateProbe | None, progress: Progress
) -> tuple[list[ComparisonResult], str]:
    """Both models interleaved in several pairs of fresh processes, and whether their outputs agree, in words."""
    libraries, arrays, threads = _both_exports(a, b)
    results, note = [], ""
    with tempfile.TemporaryDirectory(prefix="tuner-compare-") as folder:
        inputs = Path(folder, "inputs.npz")
        with open(inputs, "wb") as file:
            np.savez(file, *arrays)
        for process in range(PROCESSES):
            progress.phase(f"timing both in fresh processes, {process + 1} of {PROCESSES}")
            with _entries(libraries, inputs, threads) as entries:
                note = note or _agreement(entries, Path(folder))
                results.append(
                    compare_interleaved(
                        entries, min_rounds=_LEAST_ROUNDS, time_budget_s=budget_s / PROCESSES, seed=process, probe=probe
                    )
                )
    return results, note


def _both_exports(a: Path, b: Path) -> tuple[list[Path], list[Array], int]:
    """The libraries of two exports (of one with islands its folder), inputs for both, and the threads that both have.

    Raises UserError.
    """
    from tuner.export.library import read_manifest

    manifests = [read_manifest(folder) for folder in (a, b)]
    for key in ("inputs", "threads"):
        if manifests[0].get(key) != manifests[1].get(key):
            raise UserError(f"{a} and {b}: their {key} differ", "compare models of the same kind")
    try:
        specs = [InputSpec(s["name"], tuple(s["shape"]), s["dtype"]) for s in manifests[0]["inputs"]]
        threads = int(manifests[0]["threads"])
        inputs = model_inputs(specs, {"uses": manifests[0].get("uses") or manifests[1].get("uses") or {}}, 0)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{a}: its manifest does not say what the model takes: {error}", "export it again") from error
    libraries = [
        folder if "segments" in manifest else folder / manifest["library"]
        for folder, manifest in zip((a, b), manifests, strict=True)
    ]
    return libraries, inputs, threads


@contextlib.contextmanager
def _entries(libraries: Sequence[Path], inputs: Path, threads: int) -> Iterator[list[BenchmarkEntry]]:
    """Fresh workers of both models, ready to be timed. Raises InfrastructureError."""
    from tuner.process.pinning import thread_env
    from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

    with contextlib.ExitStack() as stack:
        entries = []
        for name, library in zip("AB", libraries, strict=True):
            spec = compiled_entry(name, library, threads)
            child = stack.enter_context(Child(spec.service, spec.settings, env=thread_env(threads)))
            try:
                child.call("prepare", _PREPARE_S, inputs_npz_path=str(inputs))
            except (ChildDied, ChildTimeout, ChildError) as error:
                raise InfrastructureError(f"{library} does not run: {str(error)[:300]}") from error
            entries.append(BenchmarkEntry(name, child))
        yield entries


def _agreement(entries: Sequence[BenchmarkEntry], folder: Path) -> str:
    """Whether the outputs of both agree, in words."""
    a, b = (_outputs(entry.child, folder / f"{entry.name}.npz") for entry in entries)
    check = check_outputs(a, b, _RTOL, _ATOL)
    return "their outputs agree" if check.ok else f"their outputs DIFFER: {check.reason}"


def _outputs(child: Child, path: Path) -> list[Array]:
    child.call("outputs", _PREPARE_S, path=str(path))
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in stored.files]


# --- two trials of one kernel -----------------------------------------------------------------------


def _compare_trials(a: Operand, b: Operand, budget_s: float, progress: Progress) -> Comparison:
    from tuner.devices.device import Opening
    from tuner.measure.pooled import compare_measurements

    assert a.record is not None and b.record is not None and a.run is not None
    if (a.record.task_key, a.record.scope) != (b.record.task_key, b.record.scope):
        raise UserError(
            f"{a.name} is of {a.record.task_name}, {b.name} of {b.record.task_name}, or their targets differ",
            "compare two trials of one kernel on one target",
        )
    config = config_file.load(str(a.run / "config.yaml"))
    target = resolve.resolve(config.target)
    task = task_of(config, target, a.record.task_key, a.record.task_name, a.run, progress)
    with tempfile.TemporaryDirectory(prefix="tuner-compare-") as folder:
        opening = Opening(target, config.measure, environment.usable_threads(), Path(folder), a.run.parent, progress)
        device = resolve.kind_of(target).open(opening)
        try:
            progress.phase("building both")
            jobs = _jobs(device, task, (a, b), config.search.seed + 1, Path(folder))
            pair = _measure_both(device.bench, jobs, budget_s, progress)
        finally:
            device.close()
    for operand, measured in zip((a, b), pair, strict=True):
        if not measured.ok:
            raise UserError(f"{operand.name}: {measured.status}: {measured.reason}", "choose another trial")
    floor, caveat = pair[0].conditions.aa_floor, resolve.caveats_of(target).kernel
    return Comparison(
        pair[0].samples_s, pair[1].samples_s, compare_measurements(*pair), float("inf") if floor is None else floor,
        caveat.sentences, caveat=caveat,
    )  # fmt: skip


def _jobs(device: Device, task: Task, operands: Sequence[Operand], seed: int, folder: Path) -> list[Job]:
    """Both trials built, to be checked on the inputs of `seed`. Raises UserError where that cannot be done."""
    from kernels.passes import PASSES
    from kernels.space import Candidate

    candidates = [Candidate.from_text(operand.record.candidate) for operand in operands if operand.record]
    device.builder.space(task, tuple(PASSES))
    built = device.builder.build(task, candidates)
    references = device.builder.reference(task, [seed], folder)
    if isinstance(references, str):
        raise UserError(f"{task.name}: nothing to check it against: {references}", "compare whole models instead")
    jobs = []
    for operand, candidate, artifact in zip(operands, candidates, built, strict=True):
        if not isinstance(artifact, Artifact):
            raise UserError(f"{operand.name} does not build: {artifact.reason}", "choose another trial")
        jobs.append(job_of(task, candidate, artifact, seed, references[seed]))
    return jobs


def _measure_both(bench: Bench, jobs: Sequence[Job], budget_s: float, progress: Progress) -> list[Measurement]:
    """Both kernels (the first is the incumbent), in several fresh processes, as one measurement each."""
    from tuner.measure.pooled import pool_session

    measured, controls = [], []
    for process in range(PROCESSES):
        progress.phase(f"timing both in fresh processes, {process + 1} of {PROCESSES}")
        bench.renew()
        both, control = bench.measure_interleaved(jobs, CERTIFY, budget_s / PROCESSES, seed=process)
        measured.append(both)
        controls.append(control)
    return pool_session(measured, controls, "compare")
