"""Is anything lost when a run is killed? SIGKILL at random moments, over and over, against a run that lived.

    python experiments/kill9/run.py [--kills 200] [--trials 24] [--seed 0] [--folder DIR]

A small model is tuned once for real; its measurements are recorded and replayed from then on (`tuner.measure.replay`),
so that every run of the same seed must come to the same result. Then runs are killed: in a random stage, after a random
time of it, and gone on with, now by `--resume`, now by a plain second run, until they end; then another one begins.

A killed process is a whole run of the program, forked from this script, which has imported what a run imports, and
whose fork server it uses: starting a Python with TVM in it for each of 200 lives would take most of the time.

`--disk`: and the disk is filled up in each stage. `--short` times the real run briefly: the form that
tests/tuner/commands/test_kill.py runs.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import json
import math
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads before the fork

from tuner import config as config_file  # noqa: E402
from tuner.errors import TunerError  # noqa: E402
from tuner.progress import Progress  # noqa: E402

STAGES = {
    "start": 1, "importing": 1, "searching": 5, "ranking": 2, "certifying": 2, "linking": 2, "verifying": 2,
    "writing": 2,
}  # fmt: skip
"""The first words of the phases that a run announces, and how often each is chosen to be killed in."""

_KILLED_SHARE = 0.9
"""Of the lives; the others may end, so that a run comes to its end after some eight deaths."""

CONFIG = """\
model: {{source: "onnx:{folder}/small.onnx"}}
target: llvm
search: {{strategy: {strategy}, trials: {trials}, time_budget: 60m, batch: 8, seed: {seed}, effort: quick}}
baselines: {{models: [onnxruntime], kernels: false}}
measure: {{database: "sqlite:///{folder}/{name}/records.db"}}
report: {{formats: [md, csv]}}
out: {folder}/{name}/runs
"""


def write_model(path: Path) -> None:
    """Two convolutions and a dense layer, with seeded weights."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 8).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    weights = [
        weight("w1", 32, 16, 3, 3), weight("b1", 32), weight("w2", 48, 32, 1, 1), weight("b2", 48),
        weight("w3", 10, 48), weight("b3", 10),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 28, 28])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a run, and when: the stage, and the seconds in it. `blow` is given its process id."""

    stage: str
    after_s: float
    blow: Callable[[int], object] = lambda child: os.kill(child, signal.SIGKILL)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """`code` is -9 after a kill; `struck_in` the stage of the strike; `spent` seconds by stage; `said` its stderr."""

    code: int
    struck_in: str
    spent: dict[str, float]
    said: str
    seconds: float


# --- lives ----------------------------------------------------------------------------------------


def warm() -> None:
    """Import what a run imports, and start the fork server that all lives use."""
    import importlib
    import multiprocessing.forkserver as forkserver

    import kernels.preload  # noqa: F401

    for name in (
        "costmodel.xgb", "kernels.features", "kernels.space", "tuner.devices.builder", "tuner.measure.models",
        "tuner.commands.run", "tuner.export.library", "tuner.graph", "tuner.importers.onnx", "tuner.devices.cpu.bench",
        "tuner.report.document",
        "tuner.report.figures", "tuner.report.markdown", "tuner.report.tables", "tuner.search.optuna",
        "tuner.store.salvage", "matplotlib.backends.backend_agg", "matplotlib.figure", "pandas",
    ):  # fmt: skip
        importlib.import_module(name)
    forkserver.set_forkserver_preload(["kernels.preload"])
    forkserver.ensure_running()
    from tuner.measure import models as endtoend

    endtoend._MIN_ROUNDS = 2  # noqa: SLF001 - whole models are timed for real; their times are not compared
    # A fork of this process is not the server's parent and cannot ask whether it lives.
    forkserver._forkserver.ensure_running = lambda: None  # noqa: SLF001


def hurry() -> None:
    """Time little: what is measured matters less than that it is replayed."""
    from tuner.commands import whole_model as whole
    from tuner.tuning import searcher, session

    session._RANK_KERNEL = dataclasses.replace(session._RANK_KERNEL, max_time_s=0.02, min_time_s=0.01)  # noqa: SLF001
    searcher._CERTIFY_S = dict.fromkeys(searcher._CERTIFY_S, 0.1)  # noqa: SLF001
    whole._CONTEST_S = dict.fromkeys(whole._CONTEST_S, 0.2)  # noqa: SLF001


def live(config: Path, recording: Path | None, resume: str | None = None, fault: Fault | None = None) -> Attempt:
    """One run in a process of its own, and what becomes of it when it is struck."""
    far, near = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(far)
        os.dup2(near, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(_run(config, recording, resume))
    os.close(near)
    began = at = time.monotonic()
    stage, struck_in, said, spent = "start", "", b"", collections.Counter()
    while True:
        left = None
        if fault is not None and stage == fault.stage:
            left = max(at + fault.after_s - time.monotonic(), 0.0)
        if left == 0.0:
            fault.blow(child)
            fault, struck_in = None, stage
            continue
        if not select.select([far], [], [], left)[0]:
            continue
        chunk = os.read(far, 65536)
        if not chunk:
            break
        said += chunk
        for line in chunk.decode(errors="replace").splitlines():
            word = line.partition("] ")[2].partition(" ")[0]
            if word in STAGES and word != stage:
                spent[stage] += time.monotonic() - at
                stage, at = word, time.monotonic()
    os.close(far)
    _, status = os.waitpid(child, 0)
    spent[stage] += time.monotonic() - at
    code = os.waitstatus_to_exitcode(status)
    return Attempt(code, struck_in, dict(spent), said.decode(errors="replace"), time.monotonic() - began)


def _run(config: Path, recording: Path | None, resume: str | None) -> int:
    from tuner.commands import run as experiment

    try:
        return experiment.run(config_file.load(str(config)), "kill9", Progress(), resume, recording).exit_code
    except TunerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BaseException:  # noqa: BLE001 - the child must not go on as its parent
        import traceback

        traceback.print_exc()
        return 99


# --- what must hold -------------------------------------------------------------------------------


def stored(database: Path) -> dict[int, tuple[Any, ...]]:
    """Rows by id, once the database has passed SQLite's own checks."""
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchall():
            return {}
        return {row[0]: row for row in connection.execute("SELECT * FROM records ORDER BY id")}
    finally:
        connection.close()


def facts(database: Path) -> list[tuple[Any, ...]]:
    """What was measured, in order, without what differs by nature: run, time of day, seconds of building."""
    connection = sqlite3.connect(database)
    rows = connection.execute(
        "SELECT task_key, candidate, json_extract(measurement, '$.tier'), json_extract(measurement, '$.status'),"
        " samples, json_extract(measurement, '$.conditions.batch') FROM records ORDER BY id"
    ).fetchall()
    connection.close()
    return rows


def result(folder: Path) -> dict[str, Any]:
    """The result of a finished run, without what depends on the machine's mood."""
    summary = json.loads((folder / "summary.json").read_text())
    manifest = json.loads((folder / "export" / "manifest.json").read_text())
    assert hashlib.sha256((folder / "export" / "model.so").read_bytes()).hexdigest() == manifest["sha256"]
    assert summary["export"]["sha256"] == manifest["sha256"]
    for name in ("report.md", "kernels.csv", "config.yaml", "environment.json"):
        assert (folder / name).stat().st_size > 0, name
    return {
        "kernels": [{k: v for k, v in kernel.items() if k != "baselines"} for kernel in summary["kernels"]],
        "verified": summary["end_to_end"]["verified"],
        "trials": summary["search"]["trials"],
        "stopped_by": summary["search"]["stopped_by"].partition(",")[0],
    }


def no_double(rows: list[tuple[Any, ...]]) -> None:
    seen = collections.Counter(row[:3] for row in rows)
    twice = [key for key, count in seen.items() if count > 1]
    assert not twice, f"measured twice: {twice[:3]}"


# --- the experiment -------------------------------------------------------------------------------


class Experiment:
    def __init__(self, folder: Path, trials: int, seed: int, strategy: str) -> None:
        self.folder, self.trials, self.seed, self.strategy = folder, trials, seed, strategy
        self.rng = random.Random(seed)
        self.recording = folder / "recording.json"
        self.kills: collections.Counter[str] = collections.Counter()
        self.runs = self.lives = 0
        self.same_trials = self.same_result = 0

    def config(self, name: str) -> Path:
        (self.folder / name).mkdir()
        path = self.folder / f"{name}.yaml"
        path.write_text(
            CONFIG.format(folder=self.folder, name=name, trials=self.trials, seed=self.seed, strategy=self.strategy)
        )
        return path

    def record(self) -> None:
        """Tune for real once, and keep what was measured."""
        from kernels.space import Candidate
        from tuner.devices.builder import entry_of
        from tuner.devices.cpu.runner import last_level_cache_bytes
        from tuner.measure.replay import Recording
        from tuner.store import SqlStore

        write_model(self.folder / "small.onnx")
        ended = live(self.config("real"), None)
        assert ended.code == 0, ended.said
        print(f"the real run took {ended.seconds:.0f} s", flush=True)
        [run] = (f for f in (self.folder / "real" / "runs").iterdir() if f.is_dir() and f.name[0].isdigit())
        ceilings = json.loads((run / "summary.json").read_text())["ceilings"]
        with SqlStore(f"sqlite:///{self.folder}/real/records.db") as store:
            found = {
                (entry_of(r.task_key, Candidate.from_text(r.candidate)), r.measurement.fidelity): r.measurement
                for r in store.read()
            }
        Recording(found, {**ceilings, "cache_bytes": last_level_cache_bytes()}).save(self.recording)

    def reference(self) -> None:
        """The run that nobody kills."""
        ended = live(self.config("unkilled"), self.recording)
        assert ended.code == 0, ended.said
        [run] = (f for f in (self.folder / "unkilled" / "runs").iterdir() if f.is_dir())
        self.wanted, self.wanted_facts = result(run), facts(self.folder / "unkilled" / "records.db")
        self.spent = ended.spent
        no_double(self.wanted_facts)
        real = facts(self.folder / "real" / "records.db")
        missing = [row for row in self.wanted_facts if row[3] == "run failed"]
        print(f"an unkilled replay took {ended.seconds:.1f} s ({_rounded(self.spent)})")
        same = _same(_sorted(real) == _sorted(self.wanted_facts))
        print(f"{len(real)} records, {len(missing)} of them failed runs; {same} as the real run's", flush=True)

    def one_run(self, kills_left: int) -> None:
        """One run from its beginning to its end, through as many deaths as it has."""
        name = f"run{self.runs}"
        config, database = self.config(name), self.folder / name / "records.db"
        before: dict[int, tuple[Any, ...]] = {}
        resume: str | None = None
        self.runs += 1
        self.expected = dict(self.spent)
        while True:
            kill = self.fault() if kills_left > 0 and self.rng.random() < _KILLED_SHARE else None
            ended = live(config, self.recording, resume, kill)
            self.lives += 1
            # The search of a later life is shorter: what it took is what the next one will take at most.
            self.expected |= {stage: s for stage, s in ended.spent.items() if stage != ended.struck_in}
            after = stored(database) if database.exists() else {}
            assert before.items() <= after.items(), f"{name}: committed rows are gone or changed"
            before = after
            if database.exists() and after:
                no_double(facts(database))
            if ended.code == 0:
                break
            assert ended.code == -signal.SIGKILL, f"{name}: exit code {ended.code}\n{ended.said}"
            self.kills[ended.struck_in] += 1
            kills_left -= 1
            folders = sorted(f for f in (self.folder / name / "runs").glob("*") if f.is_dir())
            usable = [f for f in folders if (f / "config.yaml").exists()]
            resume = self.rng.choice(usable).name if usable and self.rng.random() < 0.5 else None
        summaries = (self.folder / name / "runs").glob("*/summary.json")
        run = max(summaries, key=lambda path: path.stat().st_mtime_ns).parent
        self._compare(name, run, facts(database))
        shutil.rmtree(self.folder / name)

    def fault(self) -> Fault:
        """SIGKILL at a random moment."""
        stage = self.rng.choices(list(STAGES), list(STAGES.values()))[0]
        return Fault(stage, self.rng.uniform(0.0, 0.9 * self.expected.get(stage, 0.0)))

    def full_disk(self, stage: str) -> str:
        """The disk fills up in a stage: exit code 3 and a clear message; with room again the run goes on."""
        name = f"full-{stage}"
        config = self.config(name)
        disk = self.folder / name
        if (
            subprocess.run(
                [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)]
            ).returncode
            != 0
        ):
            return "not tried: it needs a file system of its own, so root"
        ballast = disk / "ballast"
        try:
            after_s = self.rng.uniform(0.0, 0.7) * self.spent.get(stage, 0.0)
            ended = live(config, self.recording, fault=Fault(stage, after_s, lambda _: _fill(ballast)))
            ballast.unlink(missing_ok=True)
            first = ended.code, stored(disk / "records.db")
            assert ended.code in (0, 3), f"{name}: exit code {ended.code}\n{ended.said}"
            assert "Traceback" not in ended.said, ended.said
            said = " ".join(line for line in ended.said.splitlines() if not line.startswith(("[", "        ")))
            assert (ended.code == 3) == ("space" in said or "full" in said), ended.said
            blamed = [row for row in facts(disk / "records.db") if row[3] in ("build failed", "run failed")]
            assert not blamed, f"{name}: candidates were blamed for the disk: {blamed[:3]}"
            again = live(config, self.recording)
            assert again.code == 0, again.said
            assert first[1].items() <= stored(disk / "records.db").items()
            run = max((disk / "runs").glob("*/summary.json"), key=lambda path: path.stat().st_mtime_ns).parent
            self._compare(name, run, facts(disk / "records.db"))
            self.runs += 1
            return f"exit code {first[0]}, {len(first[1])} records kept ({said.strip()[:150]}); went on to the end"
        finally:
            subprocess.run([shutil.which("umount") or "umount", str(disk)])

    def _compare(self, name: str, run: Path, found: list[tuple[Any, ...]]) -> None:
        screens = sum(row[2] == "screen" for row in found)
        assert screens == sum(row[2] == "screen" for row in self.wanted_facts), f"{name}: {screens} trials were spent"
        same_trials, same_result = _sorted(found) == _sorted(self.wanted_facts), result(run) == self.wanted
        self.same_trials += same_trials
        self.same_result += same_result
        if not same_result or not same_trials:
            print(f"{name}: its trials are {_same(same_trials)}, its result is {_same(same_result)}", flush=True)
            (self.folder / f"differs-{name}.json").write_text(json.dumps([result(run), self.wanted], indent=1))

    def report(self, seconds: float) -> str:
        stages = ", ".join(f"{count} {stage}" for stage, count in self.kills.items())
        return (
            f"{self.kills.total()} kills in {self.lives} lives of {self.runs} runs, {seconds:.0f} s ({stages})\n"
            f"every check after every death held: integrity, nothing gone, nothing twice, trials as budgeted\n"
            f"the same trials and samples as the unkilled run: {self.same_trials} of {self.runs}\n"
            f"the same final result: {self.same_result} of {self.runs}"
        )


def _sorted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


def _fill(path: Path) -> None:
    """Take all the room there is, to the last kilobyte."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1 << 10):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def _same(same: bool) -> str:
    return "the same" if same else "NOT the same"


def _rounded(spent: dict[str, float]) -> str:
    return ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in spent.items())


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
    warm()
    if given.short:
        hurry()
    experiment.record()
    experiment.reference()
    began = time.monotonic()
    while experiment.kills.total() < given.kills and time.monotonic() - began < 60 * given.minutes:
        experiment.one_run(given.kills - experiment.kills.total())
        print(experiment.report(time.monotonic() - began).splitlines()[0], flush=True)
    print(experiment.report(time.monotonic() - began))
    if given.disk:
        for stage in ("searching", "ranking", "certifying", "linking", "verifying", "writing"):
            print(f"disk full while {stage}: {experiment.full_disk(stage)}", flush=True)
    return 0 if experiment.same_result == experiment.runs and experiment.same_trials == experiment.runs else 1


if __name__ == "__main__":
    sys.exit(main())
