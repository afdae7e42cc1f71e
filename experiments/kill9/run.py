"""Is anything lost when a run is killed? SIGKILL at random moments, over and over, against a run that nobody killed.

    python experiments/kill9/run.py [--kills 200] [--trials 24] [--seed 0] --folder DIR

A small model is tuned once for real. Its recorded measurements stand in for timing from then on
(`tuner.measure.replay`), so that every run of the same seed must come to the same result. Then runs are killed: in a
random stage, after a random time of it. Each is continued, by `--resume` or by a plain second run, until it ends; then
another one begins.

An attempt is a whole run of the program, forked from this script, which has imported what a run imports, and whose fork
server it uses: starting a Python with TVM in it for each of 200 attempts would take most of the time.

`--disk`: and the disk is filled up in each stage. `--short` times the real run briefly: the form that
tests/tuner/commands/test_kill.py runs.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads before the fork
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.kill9 import checks
from experiments.kill9.attempts import STAGES, Attempt, Fault, attempt, prepare
from experiments.kill9.checks import Trial
from experiments.kill9.disk import CannotMount, fill, small_disk
from experiments.kill9.model import write_model, write_run_file
from tuner.records import Status

_KILLED_SHARE = 0.9
"""Of the attempts; the others may end, so that a run comes to its end after some eight kills."""

_FILLED_STAGES = ("searching", "ranking", "certifying", "assembling", "verifying", "writing")


class Experiment:
    """`folder` holds everything that runs write. `record` and `reference` come first."""

    def __init__(self, folder: Path, trials: int, seed: int, strategy: str) -> None:
        self.folder, self.trials, self.seed, self.strategy = folder, trials, seed, strategy
        self.rng = random.Random(seed)
        self.recording = folder / "recording.json"
        self.kills: collections.Counter[str] = collections.Counter()
        self.runs = self.attempts = 0
        self.same_trials = self.same_result = 0
        self.stage_s: Mapping[str, float] = {}  # of the run that nobody killed
        self.wanted: dict[str, Any] = {}
        self.wanted_trials: Sequence[Trial] = ()

    @property
    def all_the_same(self) -> bool:
        return self.same_result == self.runs and self.same_trials == self.runs

    # --- before the kills ---------------------------------------------------------------------------

    def record(self) -> None:
        """Tune for real once, and keep what was measured."""
        write_model(self.folder)
        ended = attempt(self._run_file("real"), None)
        assert ended.code == 0, ended.stderr
        print(f"the real run took {ended.seconds:.0f} s", flush=True)
        save_recording(self._database("real"), checks.latest_run(self._runs("real")), self.recording)

    def reference(self) -> None:
        """The run that nobody kills."""
        ended = attempt(self._run_file("unkilled"), self.recording)
        assert ended.code == 0, ended.stderr
        self.wanted = checks.result(checks.latest_run(self._runs("unkilled")))
        self.wanted_trials = checks.trials(self._database("unkilled"))
        self.stage_s = ended.stage_s
        unseen = STAGES.keys() - ended.stage_s.keys()
        assert not unseen, f"the run announced no stage {sorted(unseen)}: no fault would ever be injected there"
        checks.assert_nothing_twice(self.wanted_trials)
        real = checks.trials(self._database("real"))
        failed = sum(trial.status is Status.RUN_FAILED for trial in self.wanted_trials)
        spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.stage_s.items())
        print(f"an unkilled replay took {ended.seconds:.1f} s ({spent})")
        same = _same(checks.same(real, self.wanted_trials))
        print(f"{len(real)} records, {failed} of them failed runs; {same} as the real run's", flush=True)

    # --- kills --------------------------------------------------------------------------------------

    def run_and_kill(self, kills_left: int) -> None:
        """One run from its beginning to its end, killed and continued as often as it happens."""
        name = f"run{self.runs}"
        run_file, database = self._run_file(name), self._database(name)
        before: dict[int, tuple[Any, ...]] = {}
        resume: str | None = None
        expected_s = dict(self.stage_s)
        self.runs += 1
        while True:
            fault = self._fault(expected_s) if kills_left > 0 and self.rng.random() < _KILLED_SHARE else None
            ended = attempt(run_file, self.recording, resume, fault)
            self.attempts += 1
            # The search of a later attempt is shorter: what it took is what the next one will take at most.
            expected_s |= {stage: s for stage, s in ended.stage_s.items() if stage != ended.fault_stage}
            before = self._checked(name, database, before)
            if ended.code == 0:
                break
            self._count(name, ended)
            kills_left -= 1
            resume = self._resumable(name)
        self._compare(name, checks.latest_run(self._runs(name)), checks.trials(database))
        shutil.rmtree(self.folder / name)

    def _checked(self, name: str, database: Path, before: Mapping[int, tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
        """The rows of the database now, after the checks that hold after every attempt."""
        after = checks.rows(database) if database.exists() else {}
        assert before.items() <= after.items(), f"{name}: committed rows are gone or changed"
        if after:
            measured = checks.trials(database)
            assert len(measured) == len(after)
            checks.assert_nothing_twice(measured)
        return after

    def _count(self, name: str, ended: Attempt) -> None:
        assert ended.code == -signal.SIGKILL, f"{name}: exit code {ended.code}\n{ended.stderr}"
        self.kills[ended.fault_stage] += 1

    def _resumable(self, name: str) -> str | None:
        """A run to continue by its id, or None for a plain second run."""
        folders = sorted(path for path in self._runs(name).glob("*") if path.is_dir())
        usable = [folder.name for folder in folders if (folder / "config.yaml").exists()]
        return self.rng.choice(usable) if usable and self.rng.random() < 0.5 else None

    def _fault(self, expected_s: Mapping[str, float]) -> Fault:
        """SIGKILL at a random moment of a random stage."""
        stage = self.rng.choices(list(STAGES), list(STAGES.values()))[0]
        return Fault(stage, self.rng.uniform(0.0, 0.9 * expected_s.get(stage, 0.0)))

    # --- a full disk --------------------------------------------------------------------------------

    def full_disk(self, stage: str) -> str:
        """The disk fills up in a stage: exit code 3 and a clear message; with room again the run is continued."""
        name = f"full-{stage}"
        run_file, disk = self._run_file(name), self.folder / name
        try:
            with small_disk(disk):
                return self._fill_and_continue(name, run_file, disk, stage)
        except CannotMount:
            return "not tried: it needs a file system of its own, so root"

    def _fill_and_continue(self, name: str, run_file: Path, disk: Path, stage: str) -> str:
        ballast, database = disk / "ballast", self._database(name)
        after_s = self.rng.uniform(0.0, 0.7) * self.stage_s.get(stage, 0.0)
        ended = attempt(run_file, self.recording, fault=Fault(stage, after_s, lambda _: fill(ballast)))
        ballast.unlink(missing_ok=True)
        stored = checks.rows(database)
        message = _assert_disk_is_blamed(name, ended, checks.trials(database))
        again = attempt(run_file, self.recording)
        assert again.code == 0, again.stderr
        assert stored.items() <= checks.rows(database).items()
        self._compare(name, checks.latest_run(self._runs(name)), checks.trials(database))
        self.runs += 1
        return f"exit code {ended.code}, {len(stored)} records kept ({message[:150]}); continued to the end"

    # --- what it came to ----------------------------------------------------------------------------

    def _compare(self, name: str, run: Path, measured: Sequence[Trial]) -> None:
        """Count a finished run as the same as the one that nobody killed, or say how it differs."""
        spent = checks.screenings(measured)
        assert spent == checks.screenings(self.wanted_trials), f"{name}: {spent} trials were spent"
        same_trials = checks.same(measured, self.wanted_trials)
        result = checks.result(run)
        same_result = result == self.wanted
        self.same_trials += same_trials
        self.same_result += same_result
        if not same_result or not same_trials:
            print(f"{name}: its trials are {_same(same_trials)}, its result is {_same(same_result)}", flush=True)
            (self.folder / f"differs-{name}.json").write_text(json.dumps([result, self.wanted], indent=1))

    def report(self, seconds: float) -> list[str]:
        stages = ", ".join(f"{count} {stage}" for stage, count in self.kills.items())
        return [
            f"{self.kills.total()} kills in {self.attempts} attempts at {self.runs} runs, {seconds:.0f} s ({stages})",
            "every check after every kill held: integrity, nothing gone, nothing twice, trials as budgeted",
            f"the same trials and samples as the unkilled run: {self.same_trials} of {self.runs}",
            f"the same final result: {self.same_result} of {self.runs}",
        ]

    # --- files --------------------------------------------------------------------------------------

    def _run_file(self, name: str) -> Path:
        return write_run_file(self.folder, name, self.strategy, self.trials, self.seed)

    def _database(self, name: str) -> Path:
        return self.folder / name / "records.db"

    def _runs(self, name: str) -> Path:
        return self.folder / name / "runs"


def save_recording(database: Path, run: Path, path: Path) -> None:
    """What was measured in a run, as a recording by the symbols of the kernels."""
    from kernels.space import Candidate
    from tuner.devices.builder import entry_of
    from tuner.devices.cpu.runner import last_level_cache_bytes
    from tuner.measure.replay import Recording
    from tuner.store import SqlStore

    ceilings = json.loads((run / "summary.json").read_text())["ceilings"]
    with SqlStore(f"sqlite:///{database}") as store:
        measurements = {
            (entry_of(r.task_key, Candidate.from_text(r.candidate)), r.measurement.fidelity): r.measurement
            for r in store.read()
        }
    Recording(measurements, {**ceilings, "cache_bytes": last_level_cache_bytes()}).save(path)


def _assert_disk_is_blamed(name: str, ended: Attempt, measured: Sequence[Trial]) -> str:
    """A run whose disk was full says so, and blames no candidate. Returns what it says."""
    assert ended.code in (0, 3), f"{name}: exit code {ended.code}\n{ended.stderr}"
    assert "Traceback" not in ended.stderr, ended.stderr
    message = " ".join(line for line in ended.stderr.splitlines() if not line.startswith(("[", "        ")))
    assert (ended.code == 3) == ("space" in message or "full" in message), ended.stderr
    blamed = [trial for trial in measured if trial.status in (Status.BUILD_FAILED, Status.RUN_FAILED)]
    assert not blamed, f"{name}: candidates were blamed for the disk: {blamed[:3]}"
    return message.strip()


def _same(same: bool) -> str:
    return "the same" if same else "NOT the same"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further run after this long")
    parser.add_argument("--strategy", default="guided")
    parser.add_argument("--disk", action="store_true", help="fill the disk, too (needs root)")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    experiment = Experiment(given.folder.resolve(), given.trials, given.seed, given.strategy)
    prepare(given.short)
    experiment.record()
    experiment.reference()
    began = time.monotonic()
    while experiment.kills.total() < given.kills and time.monotonic() - began < 60 * given.minutes:
        experiment.run_and_kill(given.kills - experiment.kills.total())
        print(experiment.report(time.monotonic() - began)[0], flush=True)
    print("\n".join(experiment.report(time.monotonic() - began)))
    if given.disk:
        for stage in _FILLED_STAGES:
            print(f"disk full while {stage}: {experiment.full_disk(stage)}", flush=True)
    return 0 if experiment.all_the_same else 1


if __name__ == "__main__":
    sys.exit(main())
