"""What a run needs before it can search: the lowered model, the machine's ceilings, a folder, the store."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.config import RunConfig
from tuner.errors import OutputError
from tuner.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import ImportedModel, Task
from tuner.targets import ResolvedTarget

if TYPE_CHECKING:
    from tuner.build import LocalBuilder
    from tuner.graph import Lowered


@dataclass
class RunContext:
    """What every part of one run needs. `notes` are plain sentences for the report."""

    config: RunConfig
    command: str
    progress: Progress
    target: ResolvedTarget
    folder: Path
    interrupted: Interrupts
    notes: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """Scratch space of this run, gone when it ends."""
        return self.folder / ".work"


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


def tvm_target(target: ResolvedTarget) -> Any:
    from tvm.target import Target

    return Target(json.loads(target.text))


def ceilings(threads: int) -> dict[str, Any]:
    from tuner.measure.contest import thread_env
    from tuner.worker import Child

    with Child("tuner.measure.ceilings:Ceilings", {"threads": threads}, env=thread_env(threads)) as child:
        found: dict[str, Any] = child.call("measure", 120.0)
    return found


def open_store(config: RunConfig) -> Any:
    """A context manager around the record store."""
    from contextlib import closing

    from tuner.store import SqlStore

    return closing(SqlStore(config.measure.database))


def run_folder(config: RunConfig, resume: str | None) -> Path:
    """A new folder for this run, or that of the run to resume. Raises OutputError or UserError."""
    out = Path(config.out)
    if resume is not None:
        return out / resume
    slug = re.sub(r"[^a-z0-9]+", "-", config.model.source.lower()).strip("-")[-40:].strip("-")
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
        return folder
    raise OutputError(f"{out}: a hundred runs began in this second", "try again")


def write(path: Path, text: str) -> None:
    from tuner.report.summary import write_aside

    write_aside(path, text.encode())


@dataclass(frozen=True)
class Features:
    """The builder's feature rows for one task, as a Featurizer."""

    builder: LocalBuilder
    task: Task

    def rows(self, candidates: Any) -> Any:
        return self.builder.features(self.task, candidates)
