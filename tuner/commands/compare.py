"""A against B by interleaved re-measuring: two exported models, or two records of one kernel."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner import config as config_file
from tuner import environment
from tuner.commands import show
from tuner.commands.prepare import lowered, open_store
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.target import ResolvedTarget
from tuner.errors import InfrastructureError, UserError
from tuner.measure.stats import Verdict, median, median_interval
from tuner.progress import Progress, milliseconds
from tuner.protocols import CERTIFY, Artifact, Bench, InputSpec, Job, Task, job_of
from tuner.records import Fidelity, Measurement, Record

if TYPE_CHECKING:
    from tuner.measure.comparison import BenchmarkEntry
    from tuner.process.worker import Child
    from tuner.protocols import Array

PROCESSES = 5
"""Fresh processes for each of the two: with as many, what differs from process to process is known from itself."""

_PREPARE_S = 300.0
_LEAST_ROUNDS = 4
_RTOL, _ATOL = 1e-3, 1e-4


@dataclass(frozen=True)
class Compared:
    """One of the two: how it was named, and the export folder or the record that is meant."""

    name: str
    folder: Path | None = None
    record: Record | None = None
    run: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of both, the verdict on A, the A/A floor (a log ratio), and what else is to be said."""

    a: Sequence[float]
    b: Sequence[float]
    verdict: Verdict
    floor: float
    notes: tuple[str, ...] = ()

    def rows(self, names: tuple[str, str]) -> list[list[str]]:
        table = []
        for letter, name, samples in zip("AB", names, (self.a, self.b), strict=True):
            interval = median_interval(samples)
            ends = "" if interval is None else f" [{milliseconds(interval[0])}, {milliseconds(interval[1])}]"
            table.append([letter, name, f"{milliseconds(median(samples))}{ends}, {len(samples)} samples"])
        return table

    def sentence(self) -> str:
        found = self.verdict
        if found.ratio is None or found.interval is None:
            return f"A against B: {found.label} (too few pairs)"
        return (
            f"A against B: {found.label}; A takes {found.ratio:.4f} of B's time, 95 % interval "
            f"{found.interval[0]:.4f} to {found.interval[1]:.4f}, A/A floor {self.floor:.2%}"
        )


def compare(a: str, b: str, out: str, budget_s: float, progress: Progress) -> tuple[list[list[str]], list[str]]:
    """A table of both, and the sentences under it. `a`, `b`: a run, a run's trial (`RUN:TRIAL`), or an export folder.

    Raises UserError when one of them is not there or the two cannot be compared.
    """
    environment.check_versions()
    both_named = _side(a, out, progress), _side(b, out, progress)
    first, second = both_named
    if first.record is not None and second.record is not None:
        found = _records(first, second, budget_s, progress)
    elif first.folder is not None and second.folder is not None:
        found = _libraries(first.folder, second.folder, budget_s, progress)
    else:
        raise UserError(f"{a} and {b}: one is a kernel's trial, the other a whole model", "compare two of one kind")
    return found.rows((first.name, second.name)), [found.sentence(), *found.notes]


def _side(name: str, out: str, progress: Progress) -> Compared:
    from tuner.export.library import MANIFEST

    if (Path(name) / MANIFEST).is_file():
        return Compared(name, folder=Path(name))
    run, colon, trial = name.partition(":")
    folder = show.find(out, run)
    if colon:
        return Compared(name, record=_record(folder, trial, progress), run=folder)
    if not (folder / "export" / MANIFEST).is_file():
        raise UserError(f"{folder.name}: it exported no model", f"python -m tuner export {folder.name}")
    return Compared(name, folder=folder / "export")


def _record(run: Path, trial: str, progress: Progress) -> Record:
    with open_store(config_file.load(str(run / "config.yaml")), progress.message) as store:
        found: list[Record] = [
            r
            for r in store.read(run_id=run.name)
            if r.measurement.fidelity is Fidelity.SCREEN and str(r.trial) == trial
        ]
    if not found:
        raise UserError(f"{run.name}: no trial {trial!r}", f"their numbers: python -m tuner show --records {run.name}")
    return found[0]


# --- whole models ---------------------------------------------------------------------------------


def _libraries(a: Path, b: Path, budget_s: float, progress: Progress) -> Comparison:
    from tuner.export.library import read_manifest
    from tuner.measure.comparison import compare_interleaved
    from tuner.measure.stats import noise_floor, verdict
    from tuner.outputs import check_outputs

    manifests = [read_manifest(folder) for folder in (a, b)]
    for key in ("inputs", "threads"):
        if manifests[0].get(key) != manifests[1].get(key):
            raise UserError(f"{a} and {b}: their {key} differ", "compare models of the same kind")
    try:
        inputs = _inputs([InputSpec(s["name"], tuple(s["shape"]), s["dtype"]) for s in manifests[0]["inputs"]])
        threads = int(manifests[0]["threads"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{a}: its manifest does not say what the model takes: {error}", "export it again") from error
    first: list[float] = []
    second: list[float] = []
    again: tuple[list[float], list[float], list[int]] = ([], [], [])
    groups: list[int] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tuner-compare-") as scratch:
        stored = Path(scratch, "inputs.npz")
        with open(stored, "wb") as file:
            np.savez(file, *inputs)
        for process in range(PROCESSES):
            progress.phase(f"timing both in fresh processes, {process + 1} of {PROCESSES}")
            with _hosts([a / manifests[0]["library"], b / manifests[1]["library"]], stored, threads) as both:
                if not process:
                    outputs = [_outputs(contender.child, Path(scratch, f"{contender.name}.npz")) for contender in both]
                    agree = check_outputs(outputs[0], outputs[1], _RTOL, _ATOL)
                    notes.append("their outputs agree" if agree.ok else f"their outputs DIFFER: {agree.reason}")
                result = compare_interleaved(
                    both, min_rounds=_LEAST_ROUNDS, time_budget_s=budget_s / PROCESSES, seed=process
                )
            if result.dropped:
                name, reason = next(iter(result.dropped.items()))
                raise InfrastructureError(f"{name} failed while it was timed: {reason}")
            pair = result.pairs("A", "B")
            first += pair[0]
            second += pair[1]
            groups += [process] * len(pair[0])
            for kept, new in zip(again[:2], result.aa_pairs, strict=True):
                kept += new
            again[2].extend([process] * len(result.aa_pairs[0]))
    floor = noise_floor(again[0], again[1], groups=again[2])
    return Comparison(first, second, verdict(first, second, floor, groups=groups), floor, tuple(notes))


def _inputs(specs: Sequence[InputSpec]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(s.shape).astype(s.dtype)
        if np.issubdtype(np.dtype(s.dtype), np.floating)
        else rng.integers(0, 2, s.shape).astype(s.dtype)
        for s in specs
    ]


@contextlib.contextmanager
def _hosts(libraries: Sequence[Path], inputs: Path, threads: int) -> Iterator[list[BenchmarkEntry]]:
    from tuner.measure.comparison import BenchmarkEntry
    from tuner.process.pinning import thread_env
    from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

    with contextlib.ExitStack() as stack:
        made = []
        for name, library in zip("AB", libraries, strict=True):
            settings = {"library": str(library), "threads": threads}
            child = stack.enter_context(
                Child("tuner.measure.compiled_model:CompiledModelWorker", settings, env=thread_env(threads))
            )
            try:
                child.call("prepare", _PREPARE_S, inputs_npz_path=str(inputs))
            except (ChildDied, ChildTimeout, ChildError) as error:
                raise InfrastructureError(f"{library} does not run: {str(error)[:300]}") from error
            made.append(BenchmarkEntry(name, child))
        yield made


def _outputs(child: Child, path: Path) -> list[Array]:
    child.call("outputs", _PREPARE_S, path=str(path))
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in stored.files]


# --- two records of one kernel --------------------------------------------------------------------


def _records(a: Compared, b: Compared, budget_s: float, progress: Progress) -> Comparison:
    from kernels.passes import PASSES
    from kernels.space import Candidate
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
    task = _task_of(config, target, a.record, a.run, progress)
    candidates = [Candidate.from_text(side.record.candidate) for side in (a, b) if side.record]
    with tempfile.TemporaryDirectory(prefix="tuner-compare-") as folder:
        opening = Opening(target, config.measure, environment.usable_threads(), Path(folder), a.run.parent, progress)
        device = resolve.kind_of(target).open(opening)
        try:
            progress.phase("building both")
            device.builder.space(task, tuple(PASSES))
            built = device.builder.build(task, candidates)
            seed = config.search.seed + 1
            references = device.builder.reference(task, [seed], Path(folder))
            if isinstance(references, str):
                raise UserError(
                    f"{task.name}: nothing to check it against: {references}", "compare whole models instead"
                )
            jobs = []
            for side, candidate, artifact in zip((a, b), candidates, built, strict=True):
                if not isinstance(artifact, Artifact):
                    raise UserError(f"{side.name} does not build: {artifact.reason}", "choose another trial")
                jobs.append(job_of(task, candidate, artifact, seed, references[seed]))
            pair = _rematch(device.bench, jobs, budget_s, progress)
        finally:
            device.close()
    for side, measured in zip((a, b), pair, strict=True):
        if not measured.ok:
            raise UserError(f"{side.name}: {measured.status}: {measured.reason}", "choose another trial")
    floor = pair[0].conditions.aa_floor
    return Comparison(
        pair[0].samples_s, pair[1].samples_s, compare_measurements(*pair), float("inf") if floor is None else floor
    )


def _task_of(config: RunConfig, target: ResolvedTarget, record: Record, run: Path, progress: Progress) -> Task:
    """The task that a record is of. Raises UserError where its model has it no more."""
    _, variants = lowered(config, target, progress)
    tasks = {task.key: task for variant in variants for task in variant.tasks}
    task = tasks.get(record.task_key)
    if task is None:
        raise UserError(f"{run.name}: its model has no kernel {record.task_name} any more", "run it again")
    return task


def _rematch(bench: Bench, jobs: Sequence[Job], budget_s: float, progress: Progress) -> list[Measurement]:
    """Both kernels (the first is the incumbent), in several fresh processes, as one measurement each."""
    from tuner.measure.pooled import pool_session

    measured, controls = [], []
    for process in range(PROCESSES):
        progress.phase(f"timing both in fresh processes, {process + 1} of {PROCESSES}")
        bench.renew()
        both, control = bench.measure_interleaved(jobs, CERTIFY, budget_s / PROCESSES, seed=process)
        measured.append(both)
        controls.append(control)
    return pool_session(measured, controls, "rematch")
