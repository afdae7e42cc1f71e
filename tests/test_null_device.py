"""The null device: in the suites that every device passes, and a whole `run` on it, again, interrupted and resumed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm.target import Target

from kernels.space import Candidate
from kernels.tensors import TensorSpec
from kernels.workload import Workload
from tests import null_device
from tests.contracts.bench import BenchContract
from tests.contracts.builder import BuilderContract
from tests.contracts.device import DeviceContract
from tests.contracts.device_kind import DeviceKindContract
from tests.null_device import FASTEST_S, NULL, UNTUNED_S, Null, NullBench, NullBuilder
from tuner import config as run_files
from tuner.commands import run as command
from tuner.config import RunConfig
from tuner.devices.device import Device, DeviceKind
from tuner.errors import UserError
from tuner.export.library import read_manifest
from tuner.process.worker import Child
from tuner.progress import Progress
from tuner.protocols import Artifact, Bench, Builder, Job, Policy, Task, job_of
from tuner.records import Fidelity, Measurement, Record
from tuner.store import SqlStore

TASK = Task(Workload("square", "0123456789abcdef", "", (TensorSpec((2, 3), "float32"),) * 2, 1, 6.0), "a target")


class TestBuilder(BuilderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls, tmp_path_factory: pytest.TempPathFactory) -> Builder:
        return NullBuilder(tmp_path_factory.mktemp("null"))

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        return TASK


class TestBench(BenchContract):
    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Bench:
        return NullBench()

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        folder = tmp_path_factory.mktemp("null")
        builder = NullBuilder(folder)
        [candidate, *_] = builder.space(TASK, ()).points() or []
        [built] = builder.build(TASK, [candidate])
        references = builder.reference(TASK, [0], folder)
        assert not isinstance(references, str)
        assert isinstance(built, Artifact)
        return job_of(TASK, candidate, built, 0, references[0])

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, job: Job) -> Job:
        return dataclasses.replace(job, candidate=Candidate(0, (5, 5, 5)).to_text())

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, job: Job) -> Job:
        return dataclasses.replace(job, path=job.path / "nothing")


class TestDevice(DeviceContract):
    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> Target:
        return Target(null_device.TARGET)

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, tmp_path_factory: pytest.TempPathFactory) -> Device:
        return Null(tmp_path_factory.mktemp("null"))


class TestKind(DeviceKindContract):
    @pytest.fixture(autouse=True)
    def known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        null_device.install(monkeypatch)

    @pytest.fixture
    def kind(self) -> DeviceKind:
        return NULL

    @pytest.fixture
    def attributes(self) -> Mapping[str, Any]:
        return null_device.TARGET


# --- a whole run ------------------------------------------------------------------------------------

CONFIG = """
model: {{source: "onnx:{folder}/tiny.onnx"}}
target: 'null'
search: {{trials: {trials}, time_budget: 10m, batch: 4, effort: quick}}
baselines: {{models: [untuned]}}
report: {{formats: [{formats}]}}
measure: {{database: "sqlite:///{folder}/{name}.db"}}
out: {folder}/{name}
"""
TRIALS = 24


def store_model(path: Path) -> None:
    """softmax(relu(rows @ weight)): two kernels."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((8, 16), dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weight"], ["product"]),
            helper.make_node("Relu", ["product"], ["positive"]),
            helper.make_node("Softmax", ["positive"], ["shares"], axis=-1),
        ],
        "tiny",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("shares", TensorProto.FLOAT, [1, 16])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@dataclasses.dataclass(frozen=True)
class Ran:
    """A run that came to its end, and what it was configured with."""

    folder: Path
    config: RunConfig
    lines: list[str]
    exit_code: int

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "summary.json").read_text()))

    @property
    def records(self) -> list[Record]:
        with closing(SqlStore(self.config.measure.database)) as store:
            return store.read(run_id=self.folder.name)

    def screenings(self) -> list[tuple[str, str, str, int, int | None]]:
        """What the search did, in its order: all that does not name the moment or the run."""
        return [
            (r.task_key, r.candidate, r.proposer, r.trial, r.measurement.conditions.batch)
            for r in self.records
            if r.measurement.fidelity is Fidelity.SCREEN
        ]

    def results(self) -> list[Any]:
        """What the run found of each kernel."""
        names = ("name", "candidate", "tuned_s", "untuned_s", "verdict", "ratio", "ties", "verified")
        return [[kernel[name] for name in names] for kernel in self.summary["kernels"]]


def run(config: RunConfig, resume: str | None = None) -> Ran:
    outcome = command.run(config, "run", Progress(io.StringIO()), resume)
    return Ran(outcome.run_dir, config, outcome.lines, outcome.exit_code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of this module are kept, while the null device is known."""
    made = tmp_path_factory.mktemp("runs")
    store_model(made / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))  # nothing computes, so nothing has to settle
        yield made


def config_of(folder: Path, name: str, trials: int = TRIALS, formats: str = "md") -> RunConfig:
    return run_files.parse(CONFIG.format(folder=folder, name=name, trials=trials, formats=formats), f"{name}.yaml")


@dataclasses.dataclass(frozen=True)
class Watched:
    """A run with the services of the children that it started, and the processor time that it took itself."""

    ran: Ran
    services: list[str]
    cpu_s: float


@pytest.fixture(scope="module")
def watched(folder: Path) -> Watched:
    services: list[str] = []
    start = Child.__init__

    def noted(child: Child, service: str, *arguments: Any, **named: Any) -> None:
        services.append(service)
        start(child, service, *arguments, **named)

    began = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Child, "__init__", noted)
        ran = run(config_of(folder, "first", formats="html, md, csv"))
    return Watched(ran, services, time.process_time() - began)


@pytest.fixture(scope="module")
def first(watched: Watched) -> Ran:
    return watched.ran


def test_no_compiler_is_started_and_it_takes_seconds(watched: Watched) -> None:
    """Of one processor: how long that is depends on what else the machine does."""
    assert set(watched.services) == {"tests.null_device:NullModel"}
    assert watched.cpu_s < 15.0


def test_the_report_is_written(first: Ran) -> None:
    for name in ("config.yaml", "environment.json", "summary.json", "kernels.csv", "report.md", "report.html"):
        assert (first.folder / name).stat().st_size > 0, name
    assert not list(first.folder.glob(".*")), "scratch space is left"
    assert first.exit_code == 0
    assert "FASTER" in "\n".join(first.lines)


def test_the_best_of_each_space_is_found_and_certified(first: Ran) -> None:
    kernels = first.summary["kernels"]
    assert len(kernels) == 2
    for kernel in kernels:
        assert kernel["candidate"] == Candidate(0, (5, 5, 5)).to_text()
        assert kernel["verdict"] == "FASTER"
        assert kernel["verified"] is True
        assert kernel["tuned_s"] == pytest.approx(FASTEST_S, rel=1e-3)
        assert kernel["untuned_s"] == pytest.approx(UNTUNED_S, rel=1e-3)
        assert kernel["ratio"] == pytest.approx(FASTEST_S / UNTUNED_S, rel=1e-3)
        assert kernel["remeasurement_shift"] == pytest.approx(0.0, abs=1e-3)
        assert "3 fresh processes" in kernel["metadata"]["samples"]


def test_the_budget_is_spent_and_not_more(first: Ran) -> None:
    search = first.summary["search"]
    assert search["trials"] == TRIALS
    assert search["stopped_by"] == "trial budget"
    assert (search["reused"], search["failed"]) == (0, {})


def test_the_records_are_those_of_the_summary(first: Ran) -> None:
    records = first.records
    assert len(records) == first.summary["search"]["measured"]
    by_fidelity = {f: [r for r in records if r.measurement.fidelity is f] for f in Fidelity}
    assert len(by_fidelity[Fidelity.SCREEN]) == TRIALS
    assert [r.trial for r in by_fidelity[Fidelity.SCREEN]] == list(range(1, TRIALS + 1))
    for fidelity in (Fidelity.RANK, Fidelity.CERTIFY):
        assert {r.task_key for r in by_fidelity[fidelity]} == {k["task"] for k in first.summary["kernels"]}
    assert all(r.environment for r in records)
    assert {r.columns for r in by_fidelity[Fidelity.SCREEN] if r.features} == {NullBuilder.columns}
    with closing(SqlStore(first.config.measure.database)) as store:
        assert store.ended() == {first.folder.name}


def test_the_model_is_verified_compared_and_exported(first: Ran) -> None:
    whole = first.summary["end_to_end"]
    assert whole["verified"] is True
    assert whole["verdicts"] == {"untuned": "FASTER", null_device.REFERENCE: "FASTER"}
    assert whole["tuned_s"] == pytest.approx(FASTEST_S)
    manifest = read_manifest(first.folder / "export")
    assert manifest["sha256"] == first.summary["export"]["sha256"]
    parts = json.loads((first.folder / "export" / "model.so").read_text())
    assert parts == {kernel["task"]: kernel["candidate"] for kernel in first.summary["kernels"]}


def test_report_and_export_can_be_made_again(first: Ran) -> None:
    library, report = first.folder / "export" / "model.so", first.folder / "report.html"
    before = library.read_bytes()
    library.unlink()
    report.unlink()
    assert command.reexport(first.folder.name, first.config.out) == first.folder / "export"
    assert library.read_bytes() == before
    assert command.rebuild_report(first.folder.name, first.config.out) == (first.folder, ())
    assert report.stat().st_size > 0


def test_an_export_is_not_made_again_where_the_accuracy_is_missed(first: Ran) -> None:
    path = first.folder / "summary.json"
    before = path.read_bytes()
    quality = {"samples": 1, "errors": [], "agreement": None, "metric": "cosine", "score": 0.5, "bound": 0.9,
               "met": False, "data": ""}  # fmt: skip
    asked = {"asked": "float32", "layers": [], "quality": quality, "entries": {}}
    path.write_text(json.dumps({**json.loads(before), "precision": asked}))
    try:
        with pytest.raises(UserError, match="misses its accuracy"):
            command.reexport(first.folder.name, first.config.out)
    finally:
        path.write_bytes(before)


def test_a_second_run_measures_nothing_that_is_known(first: Ran) -> None:
    second = run(first.config)
    search = second.summary["search"]
    assert (search["measured"], search["reused"]) == (0, TRIALS)
    assert search["stopped_by"] == "trial budget, spent in earlier runs"
    assert second.records == []
    assert second.results() == first.results()


def test_with_more_to_spend_it_goes_on_with_what_is_new(first: Ran, folder: Path) -> None:
    more = config_of(folder, "first", trials=TRIALS + 8)
    third = run(more)
    known = {(task, candidate) for task, candidate, *_ in first.screenings()}
    new = [(task, candidate) for task, candidate, *_ in third.screenings()]
    assert len(new) == 8
    assert not set(new) & known
    assert third.summary["search"]["reused"] == TRIALS


def test_what_another_model_knew_is_used_and_not_charged(first: Ran, folder: Path) -> None:
    store_model(folder / "other.onnx")
    source = f"onnx:{folder}/other.onnx"
    config = dataclasses.replace(config_of(folder, "first", trials=8), out=f"{folder}/other")
    ran = run(dataclasses.replace(config, model=dataclasses.replace(config.model, source=source)))
    search = ran.summary["search"]
    assert search["reused"] > 0
    assert search["measured"] >= 8, "the budget is its own"


# --- interrupted and resumed ------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run in the middle of a measurement, as nothing in the program expects it."""


def after(jobs: int, happens: Callable[[], None]) -> Callable[[NullBench, Job, Policy], Measurement]:
    """`NullBench.measure`, before whose given call something happens."""
    measure, calls = NullBench.measure, [0]

    def measured(bench: NullBench, job: Job, policy: Policy) -> Measurement:
        calls[0] += 1
        if calls[0] == jobs:
            happens()
        return measure(bench, job, policy)

    return measured


@pytest.mark.parametrize("jobs", [11, TRIALS + 2], ids=["in the search", "while ranking"])
def test_a_killed_run_that_is_resumed_comes_out_the_same(first: Ran, folder: Path, jobs: int) -> None:
    config = config_of(folder, f"killed-{jobs}")

    def die() -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NullBench, "measure", after(jobs, die))
        with pytest.raises(Killed):
            run(config)
    [killed] = Path(config.out).glob("2*")
    resumed = run(config, killed.name)
    assert resumed.folder == killed
    assert resumed.screenings() == first.screenings()
    assert resumed.results() == first.results()
    assert resumed.summary["search"]["reused"] == min(jobs - 1, TRIALS)


def test_ctrl_c_keeps_the_best_so_far_and_resuming_finds_the_rest(first: Ran, folder: Path) -> None:
    config = config_of(folder, "interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NullBench, "measure", after(9, lambda: os.kill(os.getpid(), signal.SIGINT)))
        interrupted = run(config)
    assert interrupted.exit_code == 130
    assert interrupted.summary["search"]["stopped_by"] == "interrupt"
    assert interrupted.screenings() == first.screenings()[:9]
    assert (interrupted.folder / "report.md").exists()
    assert {kernel["verdict"] for kernel in interrupted.summary["kernels"]} <= {"FASTER", "not tuned", "UNDECIDED"}
    resumed = run(config, interrupted.folder.name)
    assert resumed.exit_code == 0
    assert resumed.screenings() == first.screenings()
    assert resumed.results() == first.results()
