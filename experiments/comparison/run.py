"""Does the comparison of whole models say what a user sees? Each baseline in it, and run alone.

    python experiments/comparison/run.py measure FILE [--config CONFIG ...] [--busy] [--threads N] [--seconds S]
    python experiments/comparison/run.py report FILE

`measure` adds a line to FILE for each model: every baseline of its run file alone in a fresh process, all of them
interleaved in the comparison of `tuner run`, and each alone again. Alone, calls follow one another in blocks of half a
second. Steady figures of one state of the machine are compared with each other. `--busy` keeps one CPU at work
meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT, cpu_target
from experiments.comparison.results import report
from experiments.one_task import RUNS, opened
from tuner import config as config_file
from tuner import importers
from tuner.commands.prepare import imported
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.target import ResolvedTarget
from tuner.measure.comparison import BenchmarkEntry, ComparisonResult, compare_interleaved
from tuner.measure.models import TUNED, UNTUNED, EntrySpec
from tuner.measure.states import StateProbe
from tuner.measure.stats import median
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

CONFIGS = tuple(
    f"configs/{name}.yaml" for name in ("resnet", "mobilenet_v2", "vit_small", "bert_base", "convnext_tiny")
)
_PREPARE_S = 300.0
_ALONE_BLOCK_S = 0.5
_LEAST_BLOCKS = 3
_BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def measure(config: RunConfig, target: ResolvedTarget, seconds: float) -> dict[str, Any]:
    """Every baseline of one model alone, in the comparison, and alone again; `seconds` for the comparison, a fifth of
    that for each alone. A baseline that does not start is left out, with its reason."""
    model = imported(config)
    probe = resolve.kind_of(target).state_probe(target.threads, RUNS)
    with tempfile.TemporaryDirectory() as folder, opened(target, Path(folder)) as device:
        inputs = Path(folder, "inputs.npz")
        np.savez(inputs, *importers.model_inputs(model.inputs, model.model_spec, config.search.seed))
        names = [name for name in config.baselines.models if name != UNTUNED]
        specs = [s for s in device.entries(model, {TUNED: Path()}, names) if s.name != TUNED]
        failed: dict[str, str] = {}
        alone = [_alone(spec, inputs, target.threads, seconds / 5, probe, failed) for spec in specs]
        with _started(specs, inputs, target.threads, failed) as entries:
            together = compare_interleaved(entries, time_budget_s=seconds, probe=probe)
        again = [_alone(spec, inputs, target.threads, seconds / 5, probe, failed) for spec in specs]
        results = [*alone, together, *again]
        if probe is not None:
            for result in results:  # by what all of them have seen
                result.tell_states(probe)
            probe.close()
    return {
        "model": model.name, "threads": target.threads, "load": os.getloadavg()[0],
        "failed": failed | together.dropped,
        "rows": [row for i, spec in enumerate(specs) for row in rows(spec.name, together, alone[i], again[i])],
    }  # fmt: skip


def rows(
    name: str, compared: ComparisonResult, alone: ComparisonResult, again: ComparisonResult
) -> list[dict[str, Any]]:
    """One row for each state in which a baseline has blocks enough alone and compared. Seconds per call; `ratio` is
    compared over alone, `again` the second time alone over the first."""
    found = []
    for state in dict.fromkeys([*_states(alone, name), *_states(again, name)]):
        sets = [_samples(result, name, state) for result in (compared, alone, again)]
        timed, *apart = sets
        lonely = [s for samples in apart for s in samples]
        if len(timed) < _LEAST_BLOCKS or len(lonely) < _LEAST_BLOCKS:
            continue
        found.append({
            "baseline": name, "state": state, "blocks": [len(samples) for samples in sets],
            "compared_s": median(timed), "alone_s": median(lonely), "ratio": median(timed) / median(lonely),
            "again": median(apart[1]) / median(apart[0]) if all(apart) else None,
            "first_call_s": _median([*compared.first_calls.get(name, {}).values()]),
        })  # fmt: skip
    return found


def _states(result: ComparisonResult, name: str) -> list[str | None]:
    return list(dict.fromkeys(result.states.get(name, {}).values())) or [None]


def _samples(result: ComparisonResult, name: str, state: str | None) -> list[float]:
    """The blocks of an entry in a state; all of them where states were not told."""
    states = result.states.get(name, {})
    return [s for number, s in result.blocks.get(name, {}).items() if states.get(number) == state]


def _median(samples: Sequence[float]) -> float | None:
    return median(samples) if samples else None


def _alone(
    spec: EntrySpec, inputs: Path, threads: int, seconds: float, probe: StateProbe | None, failed: dict[str, str]
) -> ComparisonResult:
    with _started([spec], inputs, threads, failed) as entries:
        return compare_interleaved(
            entries, min_rounds=_LEAST_BLOCKS, time_budget_s=seconds, block_s=_ALONE_BLOCK_S, probe=probe
        )


@contextlib.contextmanager
def _started(
    specs: Sequence[EntrySpec], inputs: Path, threads: int, failed: dict[str, str]
) -> Iterator[list[BenchmarkEntry]]:
    """Baselines in fresh processes, ready to be timed; those that do not start are added to `failed`."""
    with contextlib.ExitStack() as stack:
        entries = []
        for spec in specs:
            child = stack.enter_context(Child(spec.service, spec.settings, env=thread_env(threads)))
            try:
                child.call("prepare", _PREPARE_S, inputs_npz_path=str(inputs))
                entries.append(BenchmarkEntry(spec.name, child))
            except (ChildDied, ChildError, ChildTimeout) as error:
                failed[spec.name] = str(error)[:300]
        yield entries


@contextlib.contextmanager
def busy(at_work: bool) -> Iterator[None]:
    """The last CPU that this process may use kept at work, or nothing."""
    if not at_work:
        yield
        return
    cpu = max(os.sched_getaffinity(0))
    process = subprocess.Popen([sys.executable, "-c", _BUSY, str(cpu)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "report"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--config", action="append", help="a run file; several times for several models")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=40.0, help="for the comparison of each model")
    given = parser.parse_args()
    if given.what == "measure":
        with busy(given.busy):
            for path in given.config or [str(ROOT / name) for name in CONFIGS]:
                line = measure(config_file.load(path), cpu_target(given.threads), given.seconds)
                with open(given.file, "a") as file:
                    file.write(json.dumps({**line, "busy": given.busy}) + "\n")
    print("\n".join(report([json.loads(line) for line in given.file.read_text().splitlines()])))


if __name__ == "__main__":
    main()
