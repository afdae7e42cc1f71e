"""The doctor, before set-ups that are really broken: most of them in a process of their own."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.record_store import make_record
from tuner import doctor
from tuner.config import ModelConfig, RunConfig, TargetConfig
from tuner.devices.cuda import findings
from tuner.doctor import State, machine, software
from tuner.doctor.database import database
from tuner.store import SCHEMA_VERSION, SqlStore

ROOT = Path(__file__).parents[3]


def examined(
    folder: Path, env: Mapping[str, str] | None = None, limit: Callable[[], None] | None = None, config: str = ""
) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit code and findings by part of `tuner doctor --json` in a process of its own."""
    (folder / "run.yaml").write_text(
        f"model: {{source: onnx:light_resnet50}}\nmeasure: {{database: 'sqlite:///{folder}/records.db'}}\n{config}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "doctor", str(folder / "run.yaml"), "--json", "--out", str(folder / "runs")],
        cwd=ROOT, env={**os.environ, **(env or {})}, preexec_fn=limit, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    findings: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout):
        findings.setdefault(finding["part"], []).append(finding)
    return done.returncode, findings


def test_a_good_set_up_is_fine_and_left_as_it_was(tmp_path: Path) -> None:
    code, findings = examined(tmp_path)
    every = [finding for part in findings.values() for finding in part]
    assert code == 0, every
    assert {"python", "versions", "packages", "linker", "compiler", "tvm", "target", "cuda", "memory", "limits", "load",
            "results folder", "temp folder", "database"} <= findings.keys()  # fmt: skip
    assert "compiles, links and runs a kernel with LLVM" in findings["tvm"][0]["found"]
    assert all(bool(finding["advice"]) == (finding["state"] != "ok") for finding in every)
    assert os.listdir(tmp_path) == ["run.yaml"]


def test_another_ffi_is_reported_and_not_tested(tmp_path: Path) -> None:
    fake = tmp_path / "path" / "apache_tvm_ffi-0.1.15.post2.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: apache-tvm-ffi\nVersion: 0.1.15.post2\n")
    code, findings = examined(tmp_path, {"PYTHONPATH": str(fake.parent)})
    assert code == 3
    [wrong] = findings["versions"]
    assert wrong["state"] == "broken"
    assert "apache-tvm-ffi is 0.1.15.post2" in wrong["found"]
    assert "pip install" in wrong["advice"]
    assert findings["tvm"][0]["found"] == "not tested with these versions"


def test_a_tvm_that_does_not_load_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "path" / "tvm").mkdir(parents=True)
    (tmp_path / "path" / "tvm" / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    code, findings = examined(tmp_path, {"PYTHONPATH": str(tmp_path / "path")})
    assert code == 3
    assert findings["tvm"][0]["state"] == "broken"
    assert findings["database"][0]["state"] == "ok", "it went on after that"


def test_little_memory_and_few_files(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    code, findings = examined(tmp_path, limit=limit)
    assert code == 3
    assert "ulimit -v allows 0.4 GiB" in findings["memory"][0]["found"]
    assert "64 open files" in findings["limits"][0]["found"]
    assert findings["tvm"][0]["state"] == "broken"


# --- part by part --------------------------------------------------------------------------------------


def only(look: Iterable[doctor.Finding]) -> doctor.Finding:
    [finding] = look
    return finding


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert only(machine.folder("x", tmp_path / "file" / "runs", "other")).found == f"{tmp_path}/file is not a folder"
    for path in ("/proc/tuner", "/sys"):
        finding = only(machine.folder("x", Path(path), "other"))
        assert finding.state is State.BROKEN
        assert "cannot be written to" in finding.found
        assert finding.advice == "other"
    assert only(machine.folder("x", tmp_path / "a" / "b", "other")).state is State.OK
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        folder, limits = only(machine.folder("x", tmp_path, "other")), only(machine.limits())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folder.state is State.BROKEN
    assert limits.state is State.WARNING
    assert os.listdir(tmp_path) == []


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/records.db"
    with SqlStore(url) as store:
        store.append([make_record(trial=trial) for trial in range(200)])
    return url


def test_a_whole_database(url: str) -> None:
    finding = only(database(url))
    assert finding.state is State.OK
    assert finding.found.endswith(f"whole, schema {SCHEMA_VERSION}, 200 records")
    assert only(database("sqlite://")).state is State.OK


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE schema_version SET version = 999", "this program knows"),
        ("UPDATE schema_version SET version = -1", "this program knows"),
        ("DROP TABLE schema_version", "of another program"),
        ("ALTER TABLE records RENAME TO customers", "of another program"),
    ],
)
def test_a_database_of_another_program_or_version(url: str, change: str, words: str) -> None:
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute(change)
        connection.commit()
    finding = only(database(url))
    assert (finding.state, bool(finding.advice)) == (State.BROKEN, True)
    assert words in finding.found


def test_a_damaged_database(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    finding = only(database(url))
    assert finding.state is State.BROKEN
    assert "move it away" in finding.advice
    path.write_bytes(b"no database" * 1000)
    assert "not a SQLite database" in only(database(url)).advice
    path.unlink()
    path.mkdir()
    assert only(database(url)).state is State.BROKEN


def test_a_locked_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.doctor.database._BUSY_S", 0.1)
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert "another process keeps it locked" in only(database(url)).advice


def test_a_database_that_cannot_be_opened_is_a_finding() -> None:
    [finding] = doctor.look("database", lambda: database("postgresql+nodriver://me:secret@localhost/x"))
    assert finding.state is State.BROKEN
    assert finding.advice
    assert "secret" not in finding.found


def fake_program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_nvcc_that_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = RunConfig(ModelConfig(""), target=TargetConfig("cuda"))

    def states() -> dict[str, Any]:
        return {f.found: f.state for f in findings.findings(wanted) if "nvcc" in f.found}

    missing = {"missing: nvcc, or it does not work": State.BROKEN}
    assert states() == missing
    fake_program(tmp_path, "nvcc", "exit 1")
    assert states() == missing
    fake_program(tmp_path, "nvcc", "echo Cuda compilation tools, release 12.9, V12.9.41")
    assert states() == {"nvcc 12.9": State.OK}


def test_pycuda_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    (tmp_path / "pycuda" / "driver.py").write_text("raise ImportError('libcurand.so.10: no such file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    [finding] = [f for f in findings.findings(RunConfig(ModelConfig(""))) if "PyCUDA" in f.found]
    assert finding.found == "PyCUDA cannot be imported: ImportError: libcurand.so.10: no such file"
    assert "build it again" in finding.advice


def test_no_linker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [finding] = doctor.look("linker", software.linker)
    assert (finding.state, finding.found) == (State.BROKEN, "no linker found (ld, cc or gcc)")
    fake_program(tmp_path, "ld", "exit 0")
    assert [f.state for f in doctor.look("linker", software.linker)] == [State.OK]
    for part, look in (("compiler", software.compiler), ("tvm", lambda: software.tvm(RunConfig(ModelConfig(""))))):
        [finding] = doctor.look(part, look)
        assert finding.state is State.BROKEN and "compiler" in finding.found


def test_optional_packages_count_when_the_model_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "torch", "transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [])
    states = {f.found.partition(":")[0]: f.state for f in software.packages(RunConfig(ModelConfig("torch:a:b")))}
    assert (states["no torch"], states["no onnx"], states["no transformers"]) == (State.BROKEN, State.NOTE, State.NOTE)


def without_packages(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-m", "tuner", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_without_any_package_every_missing_one_is_listed() -> None:
    done = without_packages("doctor")
    assert done.returncode == 3
    assert done.stderr == ""
    [packages] = [line for line in done.stdout.splitlines() if line.startswith("BROKEN   packages")]
    assert all(name in packages for name in ("numpy", "xgboost", "optuna", "yaml"))


@pytest.mark.parametrize("arguments", [("run", "configs/smoke.yaml"), ("tasks", "configs/smoke.yaml"), ("import", "x")])
def test_a_command_without_its_packages_says_what_to_do(arguments: tuple[str, ...]) -> None:
    done = without_packages(*arguments)
    assert done.returncode == 3
    assert "is missing" in done.stderr
    assert "make setup" in done.stderr
    assert len(done.stderr.splitlines()) == 2
