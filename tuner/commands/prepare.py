"""What a run needs before it can search: the lowered model, a folder, the store."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import environment, files
from tuner.commands import automatic, precision, show, within
from tuner.commands.automatic import Timer
from tuner.config import SETTINGS, EffortSettings, RunConfig, load
from tuner.devices import resolve
from tuner.devices.device import Opening, mode_of
from tuner.devices.target import ResolvedTarget
from tuner.errors import ConfigError, OutputError, UserError
from tuner.models import ImportedModel
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import Task
from tuner.tuning.total import TotalBudget

if TYPE_CHECKING:
    from tuner.graph import Choices, GraphConfig, Lowered
    from tuner.store import SqlStore

HURRIED_S = 90.0
"""With less than this left of a total budget, what can be measured in part is."""

_SCORES_IN_CACHE = 1 << 17
"""So many scores of a head (512 KiB) stay in a core's second-level cache from one kernel to the next: attention as one
kernel is then as fast as in three (docs/decisions/0022-attention.md), and is not tried."""


@dataclass
class RunContext:
    """What every part of one run needs. `notes` are sentences for the report.

    `replay`: a file of recorded measurements (`tuner.measure.replay`) that stand in for the timing of kernels.
    `total` says how long the run may go on.
    """

    config: RunConfig
    command: str
    progress: Progress
    target: ResolvedTarget
    folder: Path
    interrupted: Interrupts
    notes: list[str] = field(default_factory=list)
    replay: Path | None = None
    total: TotalBudget = field(default_factory=TotalBudget)

    @property
    def scope(self) -> str:
        """The scope of this run's records. With measurement replay it is another one: such records are never taken for
        measured ones."""
        return scope_of(self.target, self.config.measure.mode) if self.replay is None else replay_scope(self.target)

    @property
    def work(self) -> Path:
        """Scratch space of this run, removed when it ends."""
        return scratch(self.folder)

    @property
    def settings(self) -> EffortSettings:
        """Those of the configured effort."""
        return SETTINGS[self.config.search.effort]

    def opening(self) -> Opening:
        """What this run's device is opened with."""
        measure = within.patience(self.config.measure, self.total)
        workers = measure.workers or environment.usable_threads()
        return Opening(
            self.target, measure, workers, self.work, Path(self.config.out), self.progress, self.replay,
            hurried=self.total.left_s < HURRIED_S,
        )  # fmt: skip


def imported(config: RunConfig) -> ImportedModel:
    """The configured model. Raises ModelError or MissingPackage."""
    from tuner import importers

    return importers.load_spec(model_spec(config))


def model_spec(config: RunConfig) -> dict[str, Any]:
    """The spec of the configured model, in its one shape. Raises ModelError or ConfigError."""
    from tuner import importers

    model = config.model
    if len(model.shapes) > 1:
        raise ConfigError("model.shapes", f"{len(model.shapes)} shapes, where one is needed", "name one of them alone")
    shape = model.shapes[0] if model.shapes else {}
    inputs = {**model.inputs, **{name: given for name, given in shape.items() if isinstance(given, tuple)}}
    dims = {**model.dims, **{name: given for name, given in shape.items() if isinstance(given, int)}}
    raising = None
    if model.raised:
        sizes = {**model.sizes, **dims}
        raising = {
            "function": model.function, "sizes": sizes, "allow_reassociation": model.allow_reassociation,
            "threads": threads_of_rows(config),
        }  # fmt: skip
    return importers.make_model_spec(
        model.source, model.batch, inputs, model.weights, config.search.seed, dims, model.data, bool(shape), raising
    )  # fmt: skip


def threads_of_rows(config: RunConfig) -> int:
    """The threads among which a raised function may divide rows: those of a CPU, 0 elsewhere. Raises TargetError."""
    target = resolve.resolve(config.target, to_run=False)
    return target.threads if resolve.kind_of(target).assembly(target).runtime == "cpu" else 0


def lowered(
    config: RunConfig, target: ResolvedTarget, progress: Progress, only: Any = None, folder: Path | None = None,
    timer: Timer | None = None,
) -> tuple[ImportedModel, list[Choices]]:  # fmt: skip
    """The imported model in the precision that is asked for, and its lowered variants, each with the algorithms of its
    kernels: one for each graph configuration, or for `only` alone. Raises TargetError where the device has no
    arithmetic for one of them.

    `folder` is that of the run: what is found out about the precision is kept in it. `timer` times single layers, where
    a mix of precisions is to be found out.
    """
    from tuner.graph import GraphConfig, attention_scores, lower

    precision.require(config, target)
    progress.phase(f"importing {config.model.source}")
    with tempfile.TemporaryDirectory(prefix="tuner-precision-") as scratch_folder:
        place = Path(scratch_folder) if folder is None else folder / precision.FOLDER
        model = imported(config)
        if config.precision == "auto":
            place.mkdir(parents=True, exist_ok=True)
            model, cleaned = automatic.in_mix(config, target, model, place, progress, timer)
        else:
            model, cleaned = precision.as_asked(config, target, model, place, progress)
    tvm_target = target.tvm()
    wanted = [only] if only is not None else [
        GraphConfig(layout, depth) for layout in layouts_of(config, target) for depth in config.passes.fusion_depths
    ]  # fmt: skip
    if only is None and config.passes.attention and attention_scores(cleaned, tvm_target) > _SCORES_IN_CACHE:
        wanted += [replace(graph, attention=True) for graph in wanted if graph.fusion_depth]
    progress.phase(f"cutting {model.name} into tasks")
    variants = [lower(cleaned, graph, tvm_target) for graph in wanted]
    variants = [v for v in variants if not v.config.attention or v.kernels_of_attention]
    resolve.kind_of(target).require_arithmetic(target, variants[0].tasks)
    return model, [
        with_algorithms(config, variant, lambda graph: lower(cleaned, graph, tvm_target)) for variant in variants
    ]


def layouts_of(config: RunConfig, target: ResolvedTarget) -> list[str]:
    """The layouts of convolutions to be tried."""
    from kernels.space import vector_lanes

    auto = resolve.kind_of(target).layout(vector_lanes(target.tvm()))
    return list(dict.fromkeys(auto if name == "auto" else name for name in config.passes.layouts))


def with_algorithms(config: RunConfig, variant: Lowered, lowered_as: Callable[[GraphConfig], Lowered]) -> Choices:
    """A lowered graph with the algorithms of its kernels that are to be tried. `lowered_as` lowers it with others."""
    from tuner.graph import Choices, choices

    return choices(variant, lowered_as) if config.passes.winograd else Choices(variant)


def task_of(config: RunConfig, target: ResolvedTarget, key: str, name: str, run: Path, progress: Progress) -> Task:
    """The task of a key in the model of a run's folder. Raises UserError where the model has it no more."""
    _, variants = lowered(config, target, progress, folder=run)
    tasks = {task.key: task for variant in variants for task in variant.tasks}
    if key not in tasks:
        raise UserError(f"{run.name}: its model has no kernel {name} any more", "run it again")
    return tasks[key]


def scope_of(target: ResolvedTarget, mode: str | None) -> str:
    """What stored measurements must share to be used again, those that `import` brought from elsewhere included.

    `mode` is that of the run file. Raises ConfigError where the target has no such mode.
    """
    kind = resolve.kind_of(target)
    return kind.scope(target.text, target.device, target.threads, mode_of(kind, mode))


def replay_scope(target: ResolvedTarget) -> str:
    """The scope of records whose times were replayed."""
    return resolve.kind_of(target).scope(target.text, target.device, target.threads, "replay")


def open_store(config: RunConfig, say: Callable[[str], None]) -> SqlStore:
    """The record store. A damaged file is set aside, and `say` is called with a sentence about it."""
    from tuner.store.salvage import open_store

    return open_store(config.measure.database, say)


def hold(config: RunConfig) -> AbstractContextManager[None]:
    """Lock the folder of runs until the context ends, after a check that temporary files can be written.

    Raises OutputError when another run holds it, or when it or the temporary folder cannot be written.
    """
    files.require_temporary_folder()
    return files.locked(Path(config.out) / ".lock", "a run is going on")


def as_started(config: RunConfig, resume: str | None) -> RunConfig:
    """The configuration of a run: that which it was started with, where it is a run to resume. Raises ConfigError."""
    if resume is None:
        return config
    started_with = load(str(Path(config.out) / resume / "config.yaml"))
    return replace(started_with, out=config.out)  # the folder may have been moved


def run_folder(config: RunConfig, named: str | None) -> Path:
    """A new folder for this run, or the one named, of the run to resume. Raises OutputError or UserError."""
    out = Path(config.out)
    if named is not None:
        return out / named
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


def is_run_of(run_id: str, source: str, shape: str = "") -> bool:
    """Whether a run is one of this model's (in the shape of that name, where several were tuned), by its name as
    `run_folder` and `sub_run` make it."""
    ending = re.escape(sub_run("", shape)) if shape else ""
    return re.fullmatch(rf"\d{{8}}-\d{{6}}-{re.escape(model_slug(source))}(-\d{{1,2}})?{ending}", run_id) is not None


def sub_run(run_id: str, shape: str) -> str:
    """The id of the part of a run that is of one of its shapes."""
    return f"{run_id}.{shape}"


def start(folder: Path, config: str) -> None:
    """Write the configuration of a new run. That makes it the latest one, even where the clock was set back."""
    file = folder / "config.yaml"
    files.write_aside(file, config.encode())
    others = (show.started(other) for other in show.folders(str(folder.parent)) if other != folder)
    latest = max(others, default=0.0)
    if latest >= show.started(folder):
        os.utime(file, (latest + 1.0, latest + 1.0))


def scratch(folder: Path) -> Path:
    """Where a run or an export keeps what it builds. Children of one that was killed may still write to its own."""
    return folder / f".work-{os.getpid()}"


def tidy(out: Path) -> None:
    """Clean up after killed runs: remove their scratch space, finish an export that was ended between two renames.

    Call it only within `hold`.
    """
    for folder in show.folders(str(out)):
        for scratch_folder in folder.glob(".work-*"):
            shutil.rmtree(scratch_folder, ignore_errors=True)
        files.finish_replacing(folder / "export")
