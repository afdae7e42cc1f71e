"""`run` where the run file names several shapes: one run a shape, one report, one export. Also `report` and `export`.

Each shape has a run of its own in the folder `shapes` of the run: with its summary, its records and its report, so
that all commands take it by its name. The records are shared, so that no kernel is measured twice; the budget that is
left is divided among the shapes that are left.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import config as config_file
from tuner import environment, files
from tuner.commands import prepare, show
from tuner.commands import run as single
from tuner.commands.run import RunOutcome
from tuner.config import RunConfig
from tuner.errors import ConfigError, TunerError, UserError
from tuner.models import InputSpec
from tuner.nights import Since
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress
from tuner.report import summary as summary_file

if TYPE_CHECKING:
    from tuner.store import SqlStore

_SCHEMA = 1
_LEAST_S = 1.0  # of search for a shape for which nothing is left


def run(
    config: RunConfig, command: str, progress: Progress, resume: str | None = None, replay: Path | None = None
) -> RunOutcome:
    """`tuner.commands.run.run`, for one shape or several."""
    stated = prepare.as_started(config, resume)
    if not stated.model.shapes:
        return single.run(config, command, progress, resume, replay)
    environment.check_versions()
    with (
        prepare.hold(stated),
        Interrupts(progress.message) as interrupted,
        prepare.open_store(stated, progress.message) as store,
    ):
        return _Several(stated, command, progress, interrupted, store).execute(resume)


def rebuild_report(folder: Path) -> tuple[Path, Sequence[Since]]:
    """Write the report of a finished run again, whatever its number of shapes. Returns its folder, and how its model
    stands since last night."""
    parts = show.shapes(folder)
    if not parts:
        return single.rebuild_report(folder.name, str(folder.parent))
    since: list[Since] = []
    for part in parts.values():
        if (part / summary_file.FILE).exists():
            since += single.rebuild_report(part.name, str(part.parent))[1]
    config = config_file.load(str(folder / "config.yaml"))
    _report(folder, config, _stated(folder))
    return folder, since


def reexport(folder: Path) -> Path:
    """Build and export a finished run's winners again, whatever its number of shapes. Returns the export's folder."""
    parts = show.shapes(folder)
    if not parts:
        return single.reexport(folder.name, str(folder.parent))
    config = config_file.load(str(folder / "config.yaml"))
    for part in parts.values():
        if (part / "export").exists():
            single.reexport(part.name, str(part.parent))
    _export(folder, config, parts)
    return folder / "export"


def named_shapes(config: RunConfig) -> dict[str, RunConfig]:
    """The run of each shape by the shape's name: `seq-128`, `ids-1x128`."""
    runs: dict[str, RunConfig] = {}
    for shape in config.model.shapes:
        words = [
            f"{key}-{value if isinstance(value, int) else 'x'.join(map(str, value))}" for key, value in shape.items()
        ]
        name = prepare.model_slug("_".join(words)) or "shape"
        if name in runs:
            name = f"{name}-{len(runs)}"
        runs[name] = dataclasses.replace(config, model=dataclasses.replace(config.model, shapes=(shape,)))
    return runs


@dataclass
class _Several:
    """A run of several shapes. `states`: by name what became of each, as shapes.json has it."""

    config: RunConfig
    command: str
    progress: Progress
    interrupted: Interrupts
    store: SqlStore
    states: dict[str, dict[str, Any]] = field(default_factory=dict)

    def execute(self, resume: str | None) -> RunOutcome:
        out, runs = Path(self.config.out), named_shapes(self.config)
        prepare.tidy(out)
        specs = self._check(runs)
        folder = prepare.run_folder(self.config, resume)
        if resume is None:
            prepare.start(folder, config_file.to_yaml(self.config))
        else:
            self.states = {name: state for name, state in _stated(folder).items() if name in runs}
        for scratch in folder.glob(f"{show.PARTS}/*/.work-*"):
            shutil.rmtree(scratch, ignore_errors=True)
        lines = []
        for name, config in runs.items():
            lines += self._tune(folder, name, config, specs[name])
        _report(folder, self.config, self.states)
        exported, sentence = _export(folder, self.config, show.shapes(folder))
        lines += [f"report: {folder / 'report.html'}" if "html" in self.config.report.formats else f"run: {folder}"]
        lines += [f"export: {exported}"] if exported is not None else []
        lines += [sentence] if sentence else []
        codes = [state["exit_code"] for state in self.states.values()]
        if self.interrupted() or any(codes) or len(codes) < len(runs):
            again = f"python -m tuner run {shlex.quote(str(folder / 'config.yaml'))} --resume {folder.name}"
            lines.append(f"what is missing is made by: {again}")
        return RunOutcome(folder, 130 if self.interrupted() else max(codes, default=3), lines)

    def _check(self, runs: Mapping[str, RunConfig]) -> dict[str, tuple[InputSpec, ...]]:
        """Import the model in every shape: what is wrong with one is told before the search for another."""
        found: dict[str, tuple[InputSpec, ...]] = {}
        for name, config in runs.items():
            self.progress.phase(f"importing {config.model.source} for {name}")
            specs = prepare.imported(config).inputs
            same = next((other for other, its in found.items() if its == specs), None)
            if same is not None:
                raise ConfigError(
                    "model.shapes", f"{same} and {name} give the model the same inputs", "name one of them"
                )
            found[name] = specs
        return found

    def _tune(self, folder: Path, name: str, config: RunConfig, specs: tuple[InputSpec, ...]) -> list[str]:
        """The run of one shape; its lines for the terminal. What fails costs itself."""
        state = self.states.get(name)
        if state is not None and state["exit_code"] == 0:
            return [f"{name}: done before"]
        if self.interrupted():
            return [f"{name}: not begun"]
        part = folder / show.PARTS / prepare.sub_run(folder.name, name)
        begun = (part / "config.yaml").exists()
        config = config_file.load(str(part / "config.yaml")) if begun else self._with_share(config, name)
        config = dataclasses.replace(config, out=self.config.out)
        self.progress.message(f"shape {name}: {config.search.time_budget_s:.0f} s of search")
        inputs = {spec.name: list(spec.shape) for spec in specs}
        self.states[name] = {"name": name, "inputs": inputs, "budget_s": config.search.time_budget_s, "exit_code": 3}
        self._save(folder)
        try:
            outcome = single.run_within(
                config, self.command, self.progress, self.interrupted, self.store, str(part.relative_to(config.out)),
                name, begun,
            )  # fmt: skip
        except UserError as error:
            self.states[name] |= {"exit_code": error.exit_code, "why": str(error)}
            self.progress.message(f"shape {name}: {error}")
            lines = [f"{name}: {error}"]
        else:
            self.states[name]["exit_code"] = outcome.exit_code
            lines = [line for line in outcome.lines if not line.startswith(("report: ", "export: "))]
            lines[0] = f"{name}: {lines[0]}"
        self._save(folder)
        return lines

    def _with_share(self, config: RunConfig, name: str) -> RunConfig:
        """The run with its part of the budget: the shapes that are left share what is left."""
        names = list(named_shapes(self.config))
        left = len(names) - names.index(name)
        spent = [state for other, state in self.states.items() if other != name]
        search = config.search
        seconds = search.time_budget_s - sum(state.get("search_s", state["budget_s"]) for state in spent)
        trials = None if search.trials is None else max(1, math.ceil(search.trials / len(names)))
        share = dataclasses.replace(search, time_budget_s=max(seconds / left, _LEAST_S), trials=trials)
        return dataclasses.replace(config, search=share, total_budget_s=self._total_s(left))

    def _total_s(self, left: int) -> float | None:
        """When the next of the `left` shapes is to end, by the clock of the whole run: each has the same part of what
        is left of its total budget."""
        total_s, elapsed_s = self.config.total_budget_s, self.progress.elapsed_s
        return None if total_s is None else elapsed_s + max(total_s - elapsed_s, _LEAST_S) / left

    def _save(self, folder: Path) -> None:
        for name, part in show.shapes(folder).items():
            if name in self.states and (part / summary_file.FILE).exists():
                self.states[name]["search_s"] = summary_file.load(part)["search"]["wall_s"]
        data = {"schema": _SCHEMA, "shapes": list(self.states.values())}
        files.write_aside(folder / show.SHAPES_FILE, json.dumps(data, indent=1).encode())


def _stated(folder: Path) -> dict[str, dict[str, Any]]:
    """What became of each shape, by name. A file that is missing or damaged tells nothing."""
    try:
        shapes = json.loads((folder / show.SHAPES_FILE).read_bytes())["shapes"]
        return {
            str(shape["name"]): {
                **shape, "exit_code": int(shape["exit_code"]), "budget_s": float(shape["budget_s"])
            }
            for shape in shapes
        }  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def _report(folder: Path, config: RunConfig, states: Mapping[str, Mapping[str, Any]]) -> None:
    """One report of all shapes. Raises TunerError where it cannot be written."""
    from tuner import report
    from tuner.devices import resolve
    from tuner.store import SqlStore

    parts = {name: part for name, part in show.shapes(folder).items() if (part / summary_file.FILE).exists()}
    failed = {name: str(state.get("why", "it was not finished")) for name, state in states.items() if name not in parts}
    target = resolve.resolve(config.target, to_run=False)
    scope = prepare.scope_of(target, config.measure.mode)
    with SqlStore(config.measure.database) as store:
        report.render_several(
            folder, parts, lambda keys: store.read(scope=scope, task_key=keys), config.report.formats, failed
        )


def _export(folder: Path, config: RunConfig, parts: Mapping[str, Path]) -> tuple[Path | None, str]:
    """One export of all shapes that were exported, and a model for others where there can be one; its folder, and what
    is to be said of it. Without any, (None, "")."""
    from tuner.export import shapes
    from tuner.importers import fallback

    exported = {name: part / "export" for name, part in parts.items() if (part / "export").exists()}
    if not exported:
        return None, ""
    work = prepare.scratch(folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    raised = config.model.raised
    try:
        try:
            specs = [prepare.model_spec(one) for one in named_shapes(config).values()]
            beside, sentence = None if raised else fallback.write(specs, work), ""
        except (TunerError, RuntimeError, ValueError, OSError) as error:
            first = str(error).strip().splitlines()[0][:200]
            beside, sentence = None, f"no model for other shapes is in the export: {first}"
        shapes.export(work / "export", exported, beside)
        if raised and (why_not := _behind_symbol(config, work / "export", exported)):
            return None, f"no export of all shapes: {why_not}"
        files.replace_folder(work / "export", folder / "export")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder / "export", sentence


def _behind_symbol(config: RunConfig, folder: Path, exported: Mapping[str, Path]) -> str:
    """Put a raised function behind its symbol, where its sizes choose the model. Returns why it may not be exported."""
    from tuner.commands import symbol
    from tuner.devices import resolve

    runs = {name: one for name, one in named_shapes(config).items() if name in exported}
    specs = {name: prepare.imported(one).model_spec for name, one in runs.items()}
    return symbol.write_several(folder, specs, resolve.resolve(config.target, to_run=False).threads)[0]
