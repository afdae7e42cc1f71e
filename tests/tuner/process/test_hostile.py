"""Hostile candidates through the real worker: the right status with a reason, and a next candidate that is healthy."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernels.passes import PASSES
from tests.tuner import processes
from tests.tuner.devices.test_builder import TARGET, matmul
from tests.tuner.hostile_bed import POLICY, Bed, make_bed
from tests.tuner.hostile_kernels import CASES, Hostile
from tuner.devices import builder as build
from tuner.devices.builder import LocalBuilder
from tuner.devices.cpu import CODEGEN
from tuner.devices.cpu.bench import KernelBench
from tuner.errors import InfrastructureError
from tuner.process.pinning import thread_env
from tuner.process.worker import Child
from tuner.protocols import SCREEN, Artifact, BuildFailure, Task
from tuner.records import Status


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with make_bed(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whatever_a_kernel_does_is_a_status(bed: Bed, case: Hostile) -> None:
    bed.assert_healthy()
    worker = bed.child().pid
    others = processes.descendants(os.getpid()) - {worker}
    measurement = bed.bench.measure(bed.hostile(case.name), POLICY)
    assert (measurement.status, case.says in measurement.reason) == (case.status, True), measurement.reason
    assert not (measurement.status is not Status.OK and not measurement.reason)
    if measurement.status is not Status.OK:
        assert not processes.running(worker), "the next candidate would be measured in the same process"
    assert processes.descendants(os.getpid()) - {bed.child().pid} == others
    bed.assert_healthy()


def test_ten_crashes_in_a_row(bed: Bed) -> None:
    descriptors = processes.descriptors()
    for _ in range(10):
        assert bed.bench.measure(bed.hostile("segfault"), POLICY).status is Status.RUN_FAILED
    assert processes.descriptors() == descriptors
    bed.assert_healthy()


def test_a_flood_is_cut_off(bed: Bed) -> None:
    assert bed.bench.measure(bed.hostile("flood"), POLICY).ok
    log = os.fstat(bed.child()._log.fileno())  # noqa: SLF001
    assert log.st_size <= 64 << 20
    bed.assert_healthy()
    assert os.fstat(bed.child()._log.fileno()).st_size == 0  # noqa: SLF001


def test_a_worker_killed_while_idle_costs_nothing(bed: Bed) -> None:
    os.kill(bed.child().pid, signal.SIGKILL)
    bed.assert_healthy()


def test_a_candidate_is_not_blamed_for_the_murder_of_its_worker(bed: Bed) -> None:
    bed.assert_healthy()
    victim = bed.child().pid
    long = dataclasses.replace(SCREEN, min_time_s=1.0, max_time_s=2.0)
    threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()
    measurement = bed.bench.measure(bed.good, long)
    assert not processes.running(victim)
    assert measurement.ok, measurement.reason


def test_hopeless_calls_are_not_waited_for_as_long_as_unknown_ones(bed: Bed) -> None:
    for _ in range(10):
        bed.assert_healthy()
    bench_limit_s = bed.bench._supervisor._timeout_s  # noqa: SLF001
    bed.bench._supervisor._timeout_s = 60.0  # noqa: SLF001
    try:
        began = time.monotonic()
        late = bed.bench.measure(bed.hostile("endless_loop"), dataclasses.replace(POLICY, give_up_above_s=1e-3))
        assert late.status is Status.RUN_TIMEOUT
        assert time.monotonic() - began < 10
    finally:
        bed.bench._supervisor._timeout_s = bench_limit_s  # noqa: SLF001


def test_a_machine_that_broke_is_not_the_candidates_fault(bed: Bed, tmp_path: Path) -> None:
    """The file of a kernel that was right is damaged: no worker gets it right, which is said, not blamed on others."""
    copied = tmp_path / "good.so"
    copied.write_bytes(bed.good.path.read_bytes())
    bench = KernelBench("hot", 1, thread_env(1), timeout_s=3)
    try:
        assert bench.measure(dataclasses.replace(bed.good, path=copied), POLICY).ok
        copied.unlink()
        copied.write_bytes(b"no library")
        with pytest.raises(InfrastructureError, match="no longer run"):
            bench.measure(bed.hostile("abort"), POLICY)
    finally:
        bench.close()


@pytest.fixture
def slow_linker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A linker that hangs, and writes its process id to the file that is returned, until there is a file `fine`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    started = tmp_path / "started"
    real_linker = shutil.which("ld")
    script = f'#!/bin/sh\n[ -e {tmp_path}/fine ] && exec {real_linker} "$@"\necho $$ >> {started}\nsleep 100 & wait\n'
    (folder / "ld").write_text(script)
    (folder / "ld").chmod(0o755)

    def child(service: str, settings: dict[str, Any], env: dict[str, str], **others: Any) -> Child:
        return Child(service, settings, env={**env, "PATH": f"{folder}:{os.environ['PATH']}"}, **others)

    monkeypatch.setattr(build, "Child", child)
    return started


def test_a_compiler_that_hangs(slow_linker: Path, tmp_path: Path) -> None:
    task = Task(matmul(32), TARGET)
    builder = LocalBuilder(TARGET, CODEGEN, tmp_path / "built", workers=1, timeout_s=60)
    try:
        space = builder.space(task, tuple(PASSES))
        first, second = space.initial_candidates()[:2]
        builder.timeout_s = 3.0
        [late] = builder.build(task, [first])
        assert isinstance(late, BuildFailure)
        assert late.status is Status.BUILD_TIMEOUT
        assert "not built within 3" in late.reason
        linker = int(slow_linker.read_text())
        assert not processes.running(linker)
        (tmp_path / "fine").touch()
        builder.timeout_s = 60
        [fine] = builder.build(task, [second])
        assert isinstance(fine, Artifact)
    finally:
        builder.close()


def test_a_build_is_repeated_when_its_worker_is_murdered(slow_linker: Path, tmp_path: Path) -> None:
    task = Task(matmul(32), TARGET)
    builder = LocalBuilder(TARGET, CODEGEN, tmp_path / "built", workers=1, timeout_s=60)
    try:
        space = builder.space(task, tuple(PASSES))
        victim = builder._workers.child(0).pid  # noqa: SLF001

        def murder() -> None:
            assert processes.within(30, lambda: slow_linker.exists() and slow_linker.read_text() != "")
            (tmp_path / "fine").touch()
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=murder)
        killer.start()
        [built] = builder.build(task, space.initial_candidates()[:1])
        killer.join()
        assert isinstance(built, Artifact)
        assert not processes.running(victim)
        assert not processes.running(int(slow_linker.read_text()))
    finally:
        builder.close()


_PARENT = """
import json, sys
from tuner.process.worker import Child
child = Child("tests.tuner.hostile:Hostile")
print(json.dumps([child.pid, child.call("spawn", 60), child.call("spawn_orphan", 60)]), flush=True)
child.submit("hang_in_native_code")
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_parents_death_is_the_childrens(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        text=True,
    )
    assert parent.stdout is not None
    told = json.loads(parent.stdout.readline())
    started = processes.descendants(parent.pid) | set(told)
    assert all(processes.running(p) for p in told)
    assert len(started) >= 6  # fork server, resource tracker, reaper, and the three that were told of
    parent.send_signal(number)
    parent.communicate(timeout=20)
    assert processes.within(5, lambda: not [p for p in started if processes.running(p)])


def test_restarts_leave_nothing_behind(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(bed.scratch))
    bed.assert_healthy()
    [server] = [p for p in processes.descendants(os.getpid()) if processes.parent(p) == os.getpid() and _forks(p)]
    before = (processes.descriptors(), processes.descriptors(server), len(processes.descendants(os.getpid())))
    for _ in range(25):
        bed.bench.measure(bed.hostile("segfault"), POLICY)
    after = (processes.descriptors(), processes.descriptors(server), len(processes.descendants(os.getpid())))
    assert after == before
    assert list(bed.scratch.iterdir()) == []


def _forks(pid: int) -> bool:
    return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
