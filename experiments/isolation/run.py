"""What it costs to run kernels in a disposable child instead of in the process that searches.

    python experiments/isolation/run.py [--candidates 24] [--rounds 3] [--out results/...json]

The same built candidates are checked and timed by the same service: called directly in a fresh process, and through
the device's bench in its child. The variants are interleaved. Making the child and its pinning are counted; importing
TVM is not, in any variant: the process that children are forked from is there for the builds anyway.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ScriptFailed, cpu_target, give_result, run_script, write_json
from experiments.one_task import opened
from experiments.throughput.workloads import WORKLOADS
from kernels.metaschedule import meta_schedule
from kernels.passes import PASSES
from tuner.devices.cpu.bench import KernelBench
from tuner.devices.cpu.kernel_service import KernelService
from tuner.process.pinning import thread_env
from tuner.process.worker import Child
from tuner.protocols import SCREEN, Artifact, Builder, Job, Task, job_of
from tuner.records import Measurement

Variant = dict[str, Any]
"""What one pass over all candidates took, and the kernels' own times."""

IN_PROCESS, ISOLATED, REPLACED = "in process", "isolated", "isolated, all fail"


def build_jobs(names: Sequence[str], count: int, threads: int, folder: Path) -> list[Job]:
    """Built candidates of each workload, with their references."""
    target = cpu_target(threads)
    tasks = [Task(WORKLOADS[name](), target.text) for name in names]
    with opened(target, folder) as device:
        return [job for task in tasks for job in _jobs_of(task, device.builder, count, folder)]


def _jobs_of(task: Task, builder: Builder, count: int, folder: Path) -> Iterator[Job]:
    candidates = builder.space(task, tuple(PASSES)).initial_candidates()[:count]
    references = builder.reference(task, [0, 1], folder)
    assert not isinstance(references, str), references
    for candidate, built in zip(candidates, builder.build(task, candidates), strict=True):
        if isinstance(built, Artifact):
            yield job_of(task, candidate, built, 0, references[0], (1, references[1]))


# --- variants, each in a process of its own -----------------------------------------------------------


def in_process(jobs: Sequence[Job], threads: int) -> Variant:
    began = time.perf_counter()
    service = KernelService("hot", threads)
    replies = [service.op_run(job.to_json(), SCREEN.to_json()) for job in jobs]
    return _result(began, [Measurement.from_json(reply) for reply in replies])


def isolated(jobs: Sequence[Job], threads: int) -> Variant:
    with Child("tuner.devices.cpu.kernel_service:KernelService", {"mode": "hot", "threads": 1}) as child:
        child.call("health", 60, job=None)  # starts the process that children are forked from
    with _bench(threads) as bench:  # its child is made by the first job
        began = time.perf_counter()
        return _result(began, [bench.measure(job, SCREEN) for job in jobs])


def replaced(jobs: Sequence[Job], threads: int) -> Variant:
    """As `isolated`, with a child that is replaced after each candidate: what a failure costs."""
    with _bench(threads) as bench:
        bench.measure(jobs[0], SCREEN)
        began = time.perf_counter()
        measurements = []
        for job in jobs:
            measurements.append(bench.measure(job, SCREEN))
            bench._supervisor.replace()  # noqa: SLF001 - what it does after a failure
        return _result(began, measurements)


@contextmanager
def _bench(threads: int) -> Iterator[KernelBench]:
    with tempfile.TemporaryDirectory() as folder, opened(cpu_target(threads), Path(folder)) as device:
        assert isinstance(device.bench, KernelBench)
        yield device.bench


VARIANTS: Mapping[str, Callable[[Sequence[Job], int], Variant]] = {
    IN_PROCESS: in_process,
    ISOLATED: isolated,
    REPLACED: replaced,
}


def _result(began: float, measurements: Sequence[Measurement]) -> Variant:
    seconds = time.perf_counter() - began
    assert all(m.ok for m in measurements), [m.reason for m in measurements if not m.ok]
    medians = [m.median_s for m in measurements]
    return {"seconds": seconds, "each_s": seconds / len(measurements), "medians_s": medians}


# --- all of them ----------------------------------------------------------------------------------------


def run_interleaved(jobs: Path, rounds: int, threads: int) -> dict[str, list[Variant]]:
    """Every variant once a round, in the other order each round."""
    results: dict[str, list[Variant]] = {variant: [] for variant in VARIANTS}
    options = ["--jobs", str(jobs), "--threads", str(threads)]
    for number in range(rounds):
        for variant in sorted(VARIANTS, reverse=bool(number % 2)):
            try:
                result = run_script(__file__, ["--one", variant, *options], thread_env(threads))
            except ScriptFailed as error:
                sys.exit(str(error))
            results[variant].append(result)
            print(f"round {number}, {variant}: {1e3 * result['each_s']:.1f} ms a candidate", flush=True)
    return results


def summary(results: Mapping[str, Sequence[Variant]], candidates: int) -> Iterator[str]:
    each_s = {name: statistics.median(result["each_s"] for result in rounds) for name, rounds in results.items()}
    medians = {
        name: [statistics.median(times) for times in zip(*(result["medians_s"] for result in rounds), strict=True)]
        for name, rounds in results.items()
    }
    ratios = [other / own for own, other in zip(medians[IN_PROCESS], medians[ISOLATED], strict=True)]
    yield f"{candidates} candidates; isolated over in process: {each_s[ISOLATED] / each_s[IN_PROCESS]:.3f}"
    yield f"a failure costs {1e3 * (each_s[REPLACED] - each_s[ISOLATED]):.0f} ms more"
    yield (
        f"kernel times in the two: median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
    )


def run_one(variant: str, jobs: Path, threads: int) -> None:
    meta_schedule()
    listed = [Job.from_json(job) for job in json.loads(jobs.read_text())]
    give_result(VARIANTS[variant](listed, threads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=24, help="of each workload")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tasks", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.one, args.jobs, args.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        jobs = build_jobs(args.tasks, args.candidates, args.threads, Path(folder))
        listed = Path(folder, "jobs.json")
        write_json(listed, [job.to_json() for job in jobs])
        results = run_interleaved(listed, args.rounds, args.threads)
    for line in summary(results, len(jobs)):
        print(line)
    if args.out:
        write_json(args.out, results)


if __name__ == "__main__":
    main()
