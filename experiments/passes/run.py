"""What does each pass do to the time of kernels, alone and left out?

    python experiments/passes/run.py results/<machine>/passes.json                 # all families, 40 minutes
    python experiments/passes/run.py /tmp/passes.json --small                      # two families, about a minute

For each kernel of `families.py` (extents as in models) a schedule is chosen: the fastest of a few, each pass at the
setting that a search begins with. Then that schedule is built

- with every pass off ("none"), and with one pass alone at each of its settings,
- with every pass at its first setting ("all"), and with one pass at another setting or off,

where off is what a pass's example has before it (`kernels/passes/base.py`). All of a kernel's programs are checked and
timed interleaved, in several fresh processes, and each pass has the ratios of two of them, with 95 % intervals: alone
over none, and all over all without it (of a setting that is not the first: all with it over all). A setting that a
program refuses, or that makes the same program, has no row. docs/passes.md shows the result (`page.py`).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import cpu_target, write_json
from experiments.one_task import opened
from experiments.passes.families import FAMILIES, Shape, workload
from kernels.passes import PASSES, PassConfig
from kernels.passes.base import Pass
from kernels.space import Candidate, DesignSpace
from tuner.devices.device import Device
from tuner.measure.pooled import compare_measurements, pool_session
from tuner.protocols import RANK, SCREEN, Artifact, Job, Task, job_of
from tuner.records import Measurement

SEED = 1
SCHEDULES = 8
"""Schedules of which the fastest is taken."""

PROCESSES = 3
_EXECUTABLE = 4
SMALL = ("chain", "row sums")


@dataclass(frozen=True)
class Contrast:
    """What a setting of a pass is worth: the candidates with it and without it, in two contexts.

    `alone` and `in_all` are (with, without); None where both make the same program.
    """

    setting: Pass
    alone: tuple[Candidate, Candidate] | None
    in_all: tuple[Candidate, Candidate] | None

    def candidates(self) -> Iterator[Candidate]:
        for pair in (self.alone, self.in_all):
            yield from pair or ()


def off(kind: type[Pass]) -> Pass:
    """A pass as if it was not there."""
    config = PassConfig.from_text(kind.documentation.example.before)
    return next(setting for setting in config.settings if setting.name == kind.name)


def searched() -> list[type[Pass]]:
    """The passes that a search on a CPU chooses settings of."""
    return [kind for kind in PASSES.values() if len(kind.variants("llvm")) > 1]


def contrasts(schedule: Candidate) -> list[Contrast]:
    """Every setting of every pass on a schedule that is not the pass's "off"."""
    kinds = searched()
    none = all_of = PassConfig()
    for kind in kinds:
        none = none.replace(_baseline(kind))
        all_of = all_of.replace(kind.variants("llvm")[0])
    made = []
    for kind in kinds:
        first = kind.variants("llvm")[0]
        for setting in kind.variants("llvm"):
            if setting == _baseline(kind):
                continue
            alone = (none.replace(setting), none)
            rest = all_of.replace(_baseline(kind)) if setting == first else all_of
            in_all = (all_of.replace(setting), rest)
            made.append(Contrast(setting, _candidates(schedule, alone), _candidates(schedule, in_all)))
    return made


def _baseline(kind: type[Pass]) -> Pass:
    """What a pass is compared with: off, or its default where that is no setting of its own (0: as the CPU has it)."""
    before = off(kind)
    return before if before in kind.variants("llvm") or kind().number() else kind()


def _candidates(schedule: Candidate, configs: tuple[PassConfig, PassConfig]) -> tuple[Candidate, Candidate]:
    with_it, without = (dataclasses.replace(schedule, passes=config) for config in configs)
    return with_it, without


def measured(device: Device, name: str, shape: Shape, seconds: float, processes: int, folder: Path) -> dict[str, Any]:
    """The rows of one kernel, by pass, and the schedule they are of."""
    task = Task(workload(name, shape), cpu_target().text, 1)
    space = device.builder.space(task, tuple(PASSES))
    reference = device.builder.reference(task, [SEED], folder)
    if isinstance(reference, str):
        raise ValueError(f"{name}: {reference}")
    job = _Jobs(device, task, reference[SEED])
    schedule = _fastest(device, space, job)
    wanted = contrasts(schedule)
    jobs = job.of(list(dict.fromkeys(c for contrast in wanted for c in contrast.candidates())))
    times = _timed(device, jobs, seconds, processes)
    rows: dict[str, list[Any]] = {}
    for contrast in wanted:
        row = {"alone": _ratio(contrast.alone, jobs, times), "in_all": _ratio(contrast.in_all, jobs, times)}
        if any(row.values()):
            told = {"family": task.workload.name, "setting": contrast.setting.to_text(), **row}
            rows.setdefault(contrast.setting.name, []).append(told)
    return {"schedule": schedule.to_text(), "rows": rows}


@dataclass(frozen=True)
class _Jobs:
    """Builds candidates of a task; those that fail are left out."""

    device: Device
    task: Task
    reference: Any

    def of(self, candidates: Sequence[Candidate]) -> dict[Candidate, Job]:
        built = self.device.builder.build(self.task, candidates)
        return {
            candidate: job_of(self.task, candidate, artifact, SEED, self.reference)
            for candidate, artifact in zip(candidates, built, strict=True)
            if isinstance(artifact, Artifact)
        }


def _fastest(device: Device, space: DesignSpace, jobs: _Jobs) -> Candidate:
    made = jobs.of(space.initial_candidates(SCHEDULES) or [space.default()])
    times = {candidate: device.bench.measure(job, SCREEN) for candidate, job in made.items()}
    right = [candidate for candidate, measurement in times.items() if measurement.ok]
    return min(right, key=lambda candidate: times[candidate].median_s) if right else space.default()


def _timed(device: Device, jobs: Mapping[Candidate, Job], seconds: float, processes: int) -> dict[str, Measurement]:
    """One measurement for each program that differs, by its hash: equal ones are timed once."""
    distinct = list({_code(job): job for job in jobs.values()}.values())
    by_process, controls = [], []
    for process in range(processes):
        device.bench.renew()
        timed, control = device.bench.measure_interleaved(distinct, RANK, seconds / processes, seed=process)
        by_process.append(timed)
        controls.append(control)
    pooled = pool_session(by_process, controls, "passes")
    return {_code(job): measurement for job, measurement in zip(distinct, pooled, strict=True)}


def _code(job: Job) -> str:
    """What tells programs apart: a hash of their machine code, which has no names in it."""
    return hashlib.sha256(b"".join(executable_sections(job.path.with_suffix(".o").read_bytes()))).hexdigest()


def executable_sections(elf: bytes) -> Iterator[bytes]:
    """The sections of a 64-bit ELF file that have machine code."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    for number in range(count):
        _, _, flags, _, begin, length = struct.unpack_from("<IIQQQQ", elf, table + number * size)
        if flags & _EXECUTABLE:
            yield elf[begin : begin + length]


def _ratio(
    pair: tuple[Candidate, Candidate] | None, jobs: Mapping[Candidate, Job], times: Mapping[str, Measurement]
) -> dict[str, float] | None:
    """How many times faster the first of a pair is, with its interval; None for equal programs and failures."""
    if pair is None or not all(candidate in jobs for candidate in pair):
        return None
    with_it, without = (_code(jobs[candidate]) for candidate in pair)
    if with_it == without:
        return None
    verdict = compare_measurements(times[without], times[with_it])
    if verdict.ratio is None or verdict.interval is None:
        return None
    return {"times": verdict.ratio, "low": verdict.interval[0], "high": verdict.interval[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the result is written, as JSON, after each kernel")
    parser.add_argument("--families", default=",".join(FAMILIES), help="their names, by commas")
    parser.add_argument("--minutes", type=float, default=40.0, help="for timing, all kernels together")
    parser.add_argument("--small", action="store_true", help="one kernel of two families, one process, a minute")
    given = parser.parse_args()
    names = SMALL if given.small else given.families.split(",")
    kernels = [(name, shape) for name in names for shape in FAMILIES[name].typical[: 1 if given.small else None]]
    seconds = 60.0 * (0.4 if given.small else given.minutes) / len(kernels)
    target = cpu_target()
    found: dict[str, Any] = {"threads": target.threads, "device": target.device, "schedules": {}, "passes": {}}
    for name, shape in kernels:
        with tempfile.TemporaryDirectory() as folder, opened(target, Path(folder)) as device:
            kernel = measured(device, name, shape, seconds, 1 if given.small else PROCESSES, Path(folder))
        found["schedules"][f"{name} {'x'.join(map(str, shape))}"] = kernel["schedule"]
        for owner, rows in kernel["rows"].items():
            found["passes"].setdefault(owner, []).extend(rows)
        write_json(given.out, found)
        print(f"{name} {shape}: {sum(map(len, kernel['rows'].values()))} rows", flush=True)


if __name__ == "__main__":
    main()
