"""Attempts at a run: whole runs of the program, each in a forked process, some of which a fault ends."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import multiprocessing.forkserver as forkserver
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tuner import config
from tuner.errors import TunerError
from tuner.progress import Progress

STAGES = {
    "start": 1, "importing": 1, "searching": 5, "ranking": 2, "certifying": 2, "assembling": 2, "verifying": 2,
    "writing": 2,
}  # fmt: skip
"""By the first words of the phases that a run announces; how often each is chosen for a fault."""

_ANNOUNCED_AS = {"putting": "assembling"}  # the tuned model together

_EFFORT: config.Effort = "quick"
"""Of the run file."""

_IMPORTED = (
    "costmodel.xgb", "kernels.features", "kernels.space", "tuner.commands.run", "tuner.commands.whole_model",
    "tuner.devices.builder", "tuner.devices.cpu.assembly", "tuner.devices.cpu.bench", "tuner.devices.cpu.device",
    "tuner.export.library", "tuner.graph", "tuner.importers.onnx", "tuner.measure.models", "tuner.report.document",
    "tuner.report.figures", "tuner.report.markdown", "tuner.report.tables", "tuner.search.optuna",
    "tuner.store.salvage", "tuner.tuning.tune", "matplotlib.backends.backend_agg", "matplotlib.figure", "pandas",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What happens to a run, and when: the stage, and the seconds in it. `inject` is given its process id."""

    stage: str
    after_s: float
    inject: Callable[[int], object] = lambda pid: os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Attempt:
    """`code` is -9 after a kill; `fault_stage` the stage of the fault, if there was one; `stage_s` seconds by stage."""

    code: int
    fault_stage: str
    stage_s: Mapping[str, float]
    stderr: str
    seconds: float


def prepare(short: bool) -> None:
    """Import what a run imports, and start the fork server that all attempts use.

    Whole models are timed for real but briefly, with `short` kernels too: their times are not compared.
    """
    for name in _IMPORTED:
        importlib.import_module(name)
    forkserver.set_forkserver_preload(["kernels.preload"])
    forkserver.ensure_running()
    # A fork of this process is not the server's parent and cannot ask whether it lives.
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]  # noqa: SLF001
    settings = dataclasses.replace(config.SETTINGS[_EFFORT], compare_rounds=2)
    if short:
        settings = dataclasses.replace(settings, rank_s=0.02, certify_s=0.1, compare_s=0.2)
    cast("dict[str, config.EffortSettings]", config.SETTINGS)[_EFFORT] = settings


class _Stages:
    """Which stage a run is in, by what it announces, and the seconds that it spent in each."""

    def __init__(self) -> None:
        self.current = "start"
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self._began = self.began = time.monotonic()

    def read(self, announced: bytes) -> None:
        for line in announced.decode(errors="replace").splitlines():
            word = line.partition("] ")[2].partition(" ")[0]
            stage = _ANNOUNCED_AS.get(word, word)
            if stage in STAGES and stage != self.current:
                self.end()
                self.current = stage

    def end(self) -> None:
        now = time.monotonic()
        self.seconds[self.current] += now - self._began
        self._began = now

    def left_s(self, fault: Fault | None) -> float | None:
        """Seconds until a fault is due; None while it is not in its stage."""
        if fault is None or self.current != fault.stage:
            return None
        return max(self._began + fault.after_s - time.monotonic(), 0.0)


def attempt(run_file: Path, recording: Path | None, resume: str | None = None, fault: Fault | None = None) -> Attempt:
    """One run in a process of its own, and how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(reading)
        os.dup2(writing, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(_run(run_file, recording, resume))
    os.close(writing)
    stages, fault_stage, stderr = _Stages(), "", b""
    while True:
        left_s = stages.left_s(fault)
        if fault is not None and left_s == 0.0:
            fault.inject(pid)
            fault, fault_stage = None, stages.current
        elif select.select([reading], [], [], left_s)[0]:
            chunk = os.read(reading, 65536)
            if not chunk:
                break
            stderr += chunk
            stages.read(chunk)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    stages.end()
    seconds = time.monotonic() - stages.began
    code = os.waitstatus_to_exitcode(status)
    return Attempt(code, fault_stage, dict(stages.seconds), stderr.decode(errors="replace"), seconds)


def _run(run_file: Path, recording: Path | None, resume: str | None) -> int:
    from tuner.commands.run import run

    try:
        return run(config.load(str(run_file)), "kill9", Progress(), resume, recording).exit_code
    except TunerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BaseException:  # noqa: BLE001 - the child must not continue as its parent
        traceback.print_exc()
        return 99
