"""What a run needs before it can search: the lowered model, a folder, the store."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import environment, files
from tuner.commands import show as runs
from tuner.config import RunConfig
from tuner.devices.resolve import ResolvedTarget
from tuner.errors import OutputError
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import ImportedModel, Task

if TYPE_CHECKING:
    from tuner.devices.builder import LocalBuilder
    from tuner.graph import Lowered
    from tuner.store import SqlStore


@dataclass
class RunContext:
    """What every part of one run needs. `notes` are plain sentences for the report.

    `replay`: a file of recorded measurements (`tuner.measure.replay`) that stand in for the timing of kernels.
    """

    config: RunConfig
    command: str
    progress: Progress
    target: ResolvedTarget
    folder: Path
    interrupted: Interrupts
    notes: list[str] = field(default_factory=list)
    replay: Path | None = None

    @property
    def scope(self) -> str:
        """Of this run's records. What was replayed is never taken for what was measured."""
        mode = self.config.measure.mode if self.replay is None else "replay"
        return scope_of(self.target, mode)

    @property
    def work(self) -> Path:
        """Scratch space of this run, gone when it ends."""
        return scratch(self.folder)


def lowered(
    config: RunConfig, target: ResolvedTarget, progress: Progress, only: Any = None
) -> tuple[ImportedModel, list[Lowered]]:
    """The imported model, and its lowered variants, one for each graph configuration."""
    from kernels.space import vector_lanes
    from tuner import importers
    from tuner.graph import GraphConfig, clean, lower, preferred_layout

    progress.phase(f"importing {config.model.source}")
    model = importers.load(
        config.model.source, config.model.batch, config.model.inputs, config.model.weights, config.search.seed
    )
    llvm_or_cuda = tvm_target(target)
    cleaned = clean(model.module)
    lanes = vector_lanes(llvm_or_cuda)
    auto = preferred_layout(lanes) if target.kind == "llvm" else "NCHW"
    layouts = dict.fromkeys(auto if name == "auto" else name for name in config.passes.layouts)
    wanted = [only] if only is not None else [
        GraphConfig(layout, depth) for layout in layouts for depth in config.passes.fusion_depths
    ]  # fmt: skip
    progress.phase(f"cutting {model.name} into tasks")
    return model, [lower(cleaned, graph, llvm_or_cuda) for graph in wanted]


def scope_of(target: ResolvedTarget, mode: str) -> str:
    """What stored measurements must share to be used again; on a GPU also those that `import` brought from its like."""
    if target.kind == "cuda":
        return environment.gpu_scope_key(target.text, target.device, mode)
    return environment.scope_key(target.text, target.threads, mode)


def tvm_target(target: ResolvedTarget) -> Any:
    from tvm.target import Target

    return Target(json.loads(target.text))


def open_store(config: RunConfig, say: Callable[[str], None]) -> SqlStore:
    """The record store; a damaged file is set aside, and `say` is told."""
    from tuner.store.salvage import open_store

    return open_store(config.measure.database, say)


def hold(config: RunConfig) -> AbstractContextManager[None]:
    """Where runs are kept, for this one alone until it ends; and what every run needs is there.

    Raises OutputError: another run is going on there, or nothing can be written there, or no temporary file.
    """
    files.require_temporary_folder()
    return files.locked(Path(config.out) / ".lock", "a run is going on")


def run_folder(config: RunConfig, resume: str | None) -> Path:
    """A new folder for this run, or that of the run to resume. Raises OutputError or UserError."""
    out = Path(config.out)
    if resume is not None:
        return out / resume
    slug = model_slug(config.model.source)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = out / f"{stamp}-{slug}{f'-{attempt}' if attempt else ''}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be made: {error.strerror}", "choose another folder with --out"
            ) from error
        files.require_room(folder)
        return folder
    raise OutputError(f"{out}: a hundred runs began in this second", "try again")


def model_slug(source: str) -> str:
    """A model's part of its runs' names."""
    return re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")[-40:].strip("-")


def is_run_of(run_id: str, source: str) -> bool:
    """Whether a run is one of this model's, by its name as `run_folder` makes it."""
    return re.fullmatch(rf"\d{{8}}-\d{{6}}-{re.escape(model_slug(source))}(-\d{{1,2}})?", run_id) is not None


def start(folder: Path, config: str) -> None:
    """Write the configuration of a new run, which makes it the latest one, even where the clock was set back."""
    file = folder / "config.yaml"
    files.write_aside(file, config.encode())
    others = (runs.started(other) for other in runs.folders(str(folder.parent)) if other != folder)
    latest = max(others, default=0.0)
    if latest >= runs.started(folder):
        os.utime(file, (latest + 1.0, latest + 1.0))


def scratch(folder: Path) -> Path:
    """Where a run or an export keeps what it builds. Children of one that was killed may still write to its own."""
    return folder / f".work-{os.getpid()}"


def tidy(out: Path) -> None:
    """Put right what killed runs left: their scratch space goes, an export caught between two renames is put back.

    Only while `out` is held.
    """
    for folder in runs.folders(str(out)):
        for left in folder.glob(".work-*"):
            shutil.rmtree(left, ignore_errors=True)
        files.finish_replacing(folder / "export")


@dataclass(frozen=True)
class Features:
    """The builder's feature rows for one task, as a Featurizer."""

    builder: LocalBuilder
    task: Task

    def vectors(self, candidates: Any) -> Any:
        return self.builder.features(self.task, candidates)
