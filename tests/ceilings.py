"""This machine's ceilings for tests that start whole runs: measured once, since on a busy machine no run keeps what it
measured."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tuner.devices.cpu import machine
from tuner.files import write_aside
from tuner.progress import Progress

_SHARED = Path(tempfile.gettempdir()) / "tuner-tests-ceilings"


def keep_ceilings(runs: Path, threads: int) -> None:
    """Put them into a folder of runs, as if an earlier run had kept them there."""
    shared = machine.file_of(_SHARED, threads)
    if machine.read(shared, Progress()) is None:
        figures = machine.ceilings(runs, threads, Progress())
        write_aside(shared, json.dumps(figures).encode())
    write_aside(machine.file_of(runs, threads), shared.read_bytes())
