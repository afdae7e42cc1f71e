"""`explain`: how a run's kernel came about, as a ladder of programs that are built, checked and timed again."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner import config as config_file
from tuner import environment
from tuner.commands import show
from tuner.commands.prepare import open_store, scope_of, task_of
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.builder import LocalBuilder
from tuner.devices.device import Opening
from tuner.errors import UserError
from tuner.measure.stats import median, median_interval
from tuner.progress import Progress
from tuner.protocols import RANK, Artifact, BuildFailure, Job, Task, job_of
from tuner.records import Measurement
from tuner.report import ladder_page
from tuner.report import summary as summary_file
from tuner.schema import did_you_mean

if TYPE_CHECKING:
    from kernels.ladder import Rung
    from kernels.space import DesignSpace
    from tuner.devices.device import Device
    from tuner.devices.target import ResolvedTarget

_LANES = 64
"""Lanes of the vectors that scalar loops are held against: those with which a search begins."""

_FEWEST = 16
"""Trials from which a cost model is trained; with fewer nothing is predicted."""


def explain(folder: Path, name: str | None, seconds: float, progress: Progress) -> dict[str, Any]:
    """The ladder of a kernel of a run, as data (`tuner.report.ladder` shows it), also written into the run's folder.

    `name` is the kernel's, or the beginning of it; None: the one that takes most of the model's time. `seconds` is what
    the rungs are timed for, together. Raises UserError where there is no such kernel, or it has no schedule.
    """
    environment.check_versions()
    if parts := show.shapes(folder):
        names = ", ".join(part.name for part in parts.values())
        raise UserError(f"{folder.name}: it tuned several shapes", f"name one of them: {names}")
    summary = summary_file.load(folder)
    kernel = chosen(summary["kernels"], name, folder.name)
    config = config_file.load(str(folder / "config.yaml"))
    target = resolve.resolve(config.target)
    task = task_of(config, target, kernel["task"], kernel["name"], folder, progress)
    told = {"run": folder.name, "task": task.key, "name": kernel["name"], "candidate": kernel["candidate"]}
    with tempfile.TemporaryDirectory(prefix="tuner-explain-") as work:
        opening = Opening(target, config.measure, environment.usable_threads(), Path(work), folder.parent, progress)
        device = resolve.kind_of(target).open(opening)
        try:
            told |= _climbed(device, task, kernel, config, target, seconds, Path(work), progress)
        finally:
            device.close()
    ladder_page.write(folder, told)
    return told


def chosen(kernels: Sequence[Mapping[str, Any]], name: str | None, run: str) -> Mapping[str, Any]:
    """The kernel of a name, or of the beginning of one; of None that with the largest share. Raises UserError."""
    scheduled = [kernel for kernel in kernels if kernel.get("candidate")]
    if not scheduled:
        raise UserError(f"{run}: no kernel has a tuned schedule: all keep TVM's own", "tune it for longer")
    if name is None:
        return max(scheduled, key=lambda kernel: (kernel["tuned_s"] or 0.0) * (kernel["weight"] or 1))
    matches = [k for k in kernels if name in (k["name"], k["task"])] or [
        k for k in kernels if k["name"].startswith(name) or k["task"].startswith(name)
    ]
    if not matches:
        hint = did_you_mean(name, [k["name"] for k in kernels]) or f"see: python -m tuner show {run}"
        raise UserError(f"{run}: no kernel {name!r}", hint)
    if len(matches) > 1:
        several = ", ".join(f"{k['name']} ({k['task']})" for k in matches[:5])
        raise UserError(f"{run}: {name!r} may mean {several}", "write more of the name, or the task in brackets")
    if not matches[0].get("candidate"):
        raise UserError(f"{run}: {matches[0]['name']} keeps TVM's own schedule: there is no ladder", "choose another")
    return matches[0]


def _climbed(
    device: Device, task: Task, kernel: Mapping[str, Any], config: RunConfig, target: ResolvedTarget, seconds: float,
    work: Path, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The rungs of a kernel with their times, and its code."""
    from kernels.ladder import ladder
    from kernels.padding import padded_share
    from kernels.passes import PASSES
    from kernels.space import Candidate, InvalidCandidate

    builder = device.builder
    if not isinstance(builder, LocalBuilder):
        raise UserError(f"kernels for {target.device} have no schedule to be taken apart", "choose another run")
    progress.phase(f"taking {task.name} apart")
    space = builder.space(task, tuple(PASSES))
    winner = Candidate.from_text(kernel["candidate"])
    try:
        own, rungs = ladder(task.workload, space, winner, target.tvm())
    except (InvalidCandidate, IndexError) as error:
        raise UserError(f"{task.name}: its schedule is none of today's: {error}", "run it again") from error
    known = _predicted(builder, task, own, rungs, config, target, progress)
    estimate = space.estimate(winner)
    formula = None if estimate is None else float(estimate.seconds)
    whole = [rung.candidate.sketch == rungs[-1].candidate.sketch for rung in rungs]
    predicted = [
        formula if guess is None and all_of_it else guess for guess, all_of_it in zip(known, whole, strict=True)
    ]
    progress.phase(f"building {len(rungs)} programs")
    built = builder.build(task, [rung.candidate for rung in rungs])
    measured = _measured(device, task, rungs, built, config.search.seed + 1, seconds, work, progress)
    code = _listing(target, rungs[-1], built[-1])
    caveat = resolve.caveats_of(target).kernel
    scalar: list[list[str]] = [[] for _ in rungs[1:]]
    scalar.append(_scalar(rungs[-1]))
    return {
        "device": target.device,
        "caveat": caveat.to_json(),
        "threads": target.threads,
        "mode": config.measure.mode,
        "lower_bound_s": kernel.get("lower_bound_s") or None,
        "flops": task.workload.flops,
        "padded_share": padded_share(task.workload),
        "rungs": [
            {
                **_rung(rung, before, target),
                "scalar": loops,
                "predicted_s": guess,
                **_time(measurement, "" if all_of_it else caveat.of_parts),
            }
            for rung, before, loops, guess, measurement, all_of_it in zip(
                rungs, [None, *rungs], scalar, predicted, measured, whole, strict=False
            )
        ],
        "listing": code,
    }


def _scalar(winner: Rung) -> list[str]:
    """The loops of a CPU's kernel that are no vectors, and why."""
    from kernels.nests.scalar import scalar_loops

    return [f"{name}: {why}" for name, why in scalar_loops(winner.applied.function, _LANES)]


def _rung(rung: Rung, before: Rung | None, target: ResolvedTarget) -> dict[str, Any]:
    from kernels.tree import tree

    refused = [f"{setting}: {reason}" for setting, reason in rung.applied.refused.items()]
    return {
        "title": rung.title,
        "done": list(rung.done),
        "refused": refused,
        "counted": [] if before is None else list(_counted(before, rung, target)),
        "candidate": rung.candidate.to_text(),
        "tree": tree(rung.applied.function),
    }


def _counted(before: Rung, after: Rung, target: ResolvedTarget) -> Iterator[str]:
    """What the passes count otherwise than a rung before."""
    tvm_target = target.tvm()
    try:
        counters = [rung.applied.counters(tvm_target) for rung in (before, after)]
    except (RuntimeError, ValueError):  # a program that cannot be lowered: threads of a GPU are not bound yet
        return
    for name, values in counters[1].items():
        for counter, value in values.items():
            earlier = counters[0].get(name, {}).get(counter)
            if earlier is not None and earlier != value:
                yield f"{counter} ({name}): {earlier:g} to {value:g}"


def _time(measurement: Measurement | BuildFailure, untimed: str) -> dict[str, Any]:
    """`untimed`: why a rung that runs has no time all the same, or ""."""
    failed = isinstance(measurement, BuildFailure) or not measurement.ok
    if failed or untimed:
        reason = f"{measurement.status}: {measurement.reason}" if failed else f"it runs and is right, but {untimed}"
        return {"seconds": None, "interval_s": None, "reason": reason}
    assert isinstance(measurement, Measurement)
    interval = median_interval(measurement.samples_s)
    return {
        "seconds": median(measurement.samples_s),
        "interval_s": None if interval is None else list(interval),
        "reason": "",
    }


def _measured(
    device: Device, task: Task, rungs: Sequence[Rung], built: Sequence[Artifact | BuildFailure], seed: int,
    seconds: float, work: Path, progress: Progress,
) -> list[Measurement | BuildFailure]:  # fmt: skip
    """All rungs that were built, checked and timed interleaved; the last one is the incumbent."""
    reference = device.builder.reference(task, [seed], work)
    if isinstance(reference, str):
        raise UserError(f"{task.name}: nothing to check it against: {reference}", "choose another kernel")
    jobs: dict[int, Job] = {
        number: job_of(task, rung.candidate, artifact, seed, reference[seed])
        for number, (rung, artifact) in enumerate(zip(rungs, built, strict=True))
        if isinstance(artifact, Artifact)
    }
    progress.phase(f"timing {len(jobs)} programs interleaved")
    order = sorted(jobs, reverse=True)
    timed, _ = device.bench.measure_interleaved([jobs[n] for n in order], RANK, seconds, seed) if jobs else ([], None)
    by_number = dict(zip(order, timed, strict=True))
    return [made if isinstance(made, BuildFailure) else by_number[number] for number, made in enumerate(built)]


def _predicted(
    builder: LocalBuilder, task: Task, own: DesignSpace, rungs: Sequence[Rung], config: RunConfig,
    target: ResolvedTarget, progress: Progress,
) -> list[float | None]:  # fmt: skip
    """What a cost model that knows the run's trials of the kernel expects of each rung, in seconds.

    It ends with the rungs' space loaded in the builder.
    """
    from costmodel.xgb import XgbRanker
    from tuner.tuning.earlier import trials

    nothing: list[float | None] = [None] * len(rungs)
    columns = builder.columns
    with open_store(config, progress.message) as store:
        known = list(trials(store, columns, scope_of(target, config.measure.mode), task.key))
    builder.load(task, own)
    times = [outcome.seconds for _, _, outcome in known if outcome.seconds]
    if len(known) < _FEWEST or len(times) < 2:
        return nothing
    vectors = builder.features(task, [rung.candidate for rung in rungs])
    model = XgbRanker(builder.schema, columns=columns)
    groups = np.zeros(len(known), np.int64)
    model.fit(np.stack([v for _, v, _ in known]), [o for _, _, o in known], groups, np.ones(len(known), np.float32))
    return [
        None if vector is None else min(times) / math.exp(min(float(model.predict(vector[None])[0]), 0.0))
        for vector in vectors
    ]


def _listing(target: ResolvedTarget, rung: Rung, artifact: Artifact | BuildFailure) -> dict[str, str]:
    if isinstance(artifact, BuildFailure):
        return {"language": "", "code": "", "hot": "", "note": f"the kernel does not build: {artifact.reason}"}
    return dataclasses.asdict(resolve.kind_of(target).listing(rung.applied, target, artifact.path))
