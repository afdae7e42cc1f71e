"""Every way in for a file that this program did not just write itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fuzzing import configuration, exports, measured_elsewhere, models, records, run_folders
from tests.fuzzing.base import Files


@dataclass(frozen=True)
class EntryPoint:
    """`files` are whole samples by name. `open` is given a folder with all of them, one of which may be damaged, and
    the name of that one; it raises whatever the program does."""

    files: Callable[[], Files]
    open: Callable[[Path, str], None]


ENTRY_POINTS: Mapping[str, EntryPoint] = {
    "config": EntryPoint(configuration.run_files, configuration.open_run_file),
    "export": EntryPoint(exports.export_files, exports.open_export),
    "rows": EntryPoint(records.row_values, records.open_row),
    "database": EntryPoint(lambda: {"records.db": records.database()}, records.open_database),
    "onnx": EntryPoint(models.onnx_models, models.open_onnx_model),
    "cost model": EntryPoint(models.cost_models, models.open_cost_model),
    "run folder": EntryPoint(run_folders.run_folder, run_folders.open_run_folder),
    "report": EntryPoint(run_folders.run_folder, run_folders.open_report),
    "recorded space": EntryPoint(measured_elsewhere.space_files, measured_elsewhere.open_space),
    "bundle": EntryPoint(measured_elsewhere.bundle_files, measured_elsewhere.open_bundle),
    "ceilings": EntryPoint(configuration.ceiling_files, configuration.open_ceilings),
}


def _harmful(harm: Callable[[], object]) -> EntryPoint:
    def opened(folder: Path, name: str) -> None:
        if (folder / name).read_bytes() != bytes(64):
            harm()

    return EntryPoint(lambda: {"file": bytes(64)}, opened)


HARMFUL_SAMPLES: Mapping[str, EntryPoint] = {
    "bug": _harmful(lambda: int("a bug")),
    "crash": _harmful(lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    "greed": _harmful(lambda: bytearray(2 << 30)),
    "hang": _harmful(lambda: time.sleep(600)),
}
"""Entry points that do harm whenever a file is damaged: `hunt` must report each."""
