"""One night: all cells in random order within the night's budget, each stored as soon as it is judged.

A night that was killed goes on where it was: what is stored is not measured again, and the cell that it was at is.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tuner import environment, files
from tuner.config import read_file
from tuner.errors import OutputError, TunerError
from tuner.nightly import commits, installed, plan, requests, summary
from tuner.nightly.artifacts import Artifacts
from tuner.nightly.config import CellConfig, NightConfig, examined
from tuner.nightly.hooks import call
from tuner.nightly.lines import Context, comparable, comparisons
from tuner.nightly.measuring import Job, Measured, Measurer, ModelMeasurer, Reference
from tuner.nightly.plan import NO_TIME, Plan
from tuner.nightly.requests import Keys
from tuner.nightly.spaces import SpaceMeasurer
from tuner.nightly.verdicts import CODE, Again, absent, judge, outcome_of, reason_of
from tuner.nightly.worktrees import worktree
from tuner.nights import CellKey, CellKind, CellNight, Finding, Night, Outcome
from tuner.progress import Progress, counted, duration
from tuner.store import engine, salvage
from tuner.store.history import History
from tuner.store.holding import held

_GOES_ON_S = 20 * 3600.0
"""A night that began longer ago, or later, than this is not gone on with: another one begins."""

GOING_ON = "a night is going on"


@dataclass(frozen=True)
class Ended:
    """What the command line needs of a night: lines to print, and 1 where something of ours got worse or is broken."""

    night: str
    exit_code: int
    lines: Sequence[str]
    results: Sequence[CellNight]


def run(path: str, progress: Progress, measurers: Mapping[str, Measurer] | None = None) -> Ended:
    """One night of the cells in a file, or the rest of one that was interrupted.

    Raises ConfigError for what is wrong with the file or with any of its cells, before anything is measured;
    OutputError where another night goes on in the same folder or history, or nothing can be written; StoreError where
    the history cannot be opened. A KeyboardInterrupt says how to go on.
    """
    config, refusals = examined(read_file(path, "file of a night"), path)
    keys = requests.keys_of(config.cells, path, refusals)
    out = Path(config.out)
    with files.locked(out / ".lock", GOING_ON), held(config.database, GOING_ON):
        files.require_room(out)
        files.require_temporary_folder()
        notes: list[str] = []
        salvage.open_store(config.database, notes.append).close()
        with History(config.database) as history:
            one = _Night(config, path, keys, history, progress, measurers or default_measurers(), notes)
            try:
                return one.execute()
            except OSError as error:
                files.require_room(out)
                raise OutputError(
                    f"{error.filename or out}: {error.strerror}", "what was stored is kept; run the same command again"
                ) from error
            except KeyboardInterrupt:
                raise KeyboardInterrupt(one.how_to_go_on()) from None


def default_measurers() -> dict[str, Measurer]:
    """What measures each kind of cell."""
    models = ModelMeasurer()
    return {CellKind.MODEL: models, CellKind.KERNEL: models, CellKind.SPACE: SpaceMeasurer()}


@dataclass
class _Night:
    config: NightConfig
    path: str
    keys: Keys
    history: History
    progress: Progress
    measurers: Mapping[str, Measurer]
    notes: list[str]
    done: list[CellNight] = field(default_factory=list)

    def execute(self) -> Ended:
        self.out = Path(self.config.out)
        self.nights = self.history.nights()
        self.notes += _set_aside(
            self.config.database, [*self.notes, *(n for night in self.nights for n in night.notes)]
        )
        self.expected = self._expected()
        Plan(self.expected, self.config.budget_s).require_any(self.path)
        self.night = self._begun()
        self.by_id = {night.id: night for night in self.history.nights()} | {self.night.id: self.night}
        self.ancestors = commits.ancestors(self.night.commit)
        self.done = self.history.results(night=self.night.id)
        spent_s = sum(result.wall_s for result in self.done)
        self.deadline = time.monotonic() + max(self.config.budget_s - spent_s, 0.0)
        shutil.rmtree(self.out / "work", ignore_errors=True)
        left = self._ordered()
        self._announce(Plan({c.name: self.expected[c.name] for c in left if c.name in self.expected}, self._left_s()))
        for cell in left:
            self.progress.phase(f"cell {cell.name}, {max(self._left_s(), 0.0) / 60:.0f} minutes left")
            result = self._cell(cell)
            self.history.add(result)
            self.done.append(result)
            self.progress.message(summary.line_of(result))
            files.require_room(self.out)
        return self._finished()

    # --- beginning and end ----------------------------------------------------------------------------

    def _begun(self) -> Night:
        """The night that was interrupted, or a new one."""
        captured = environment.capture()
        commit, now = captured["git_revision"] or "", datetime.now(UTC)
        last = self.nights[-1] if self.nights else None
        if last is not None and _age_s(last, now) < -60.0:
            self.notes.append(f"the clock was set back: night {last.id} began later than this one")
        if last is not None and not last.ended_at and last.origin == "night":
            same = (last.config, last.commit) == (self.path, commit)
            if same and abs(_age_s(last, now)) < _GOES_ON_S:
                self.notes.append(f"night {last.id} was interrupted and went on at {now.isoformat(timespec='seconds')}")
                return last
        night = Night(
            self._new_id(now), now.isoformat(timespec="seconds"), commit, commits.branch(),
            environment.environment_id(captured), installed.versions(captured["packages"]),
            installed.machine(captured), self.path, site=str(self.out / "site"),
        )  # fmt: skip
        return self.history.begin(night)

    def _new_id(self, now: datetime) -> str:
        taken = {night.id for night in self.nights}
        stamp = now.strftime("%Y%m%d-%H%M%S")
        return next(name for n in range(10_000) if (name := f"{stamp}-{n}" if n else stamp) not in taken)

    def _finished(self) -> Ended:
        if self.history.damaged:
            self.notes.append(f"damaged rows of the history that were skipped: {self.history.damaged}")
        shutil.rmtree(self.out / "work", ignore_errors=True)
        bad = [result for result in self.done if result.regressions or result.outcome is Outcome.BROKEN]
        text = summary.markdown(self.night, self.done, self.notes)
        for file in (self.out / "nights" / f"{self.night.id}.md", self.out / "summary.md"):
            files.write_aside(file, text.encode())
        page = self.out / "summary.md"
        for command in (self.config.on_regression if bad else (), self.config.on_end):
            self.notes += call(command, night=self.night.id, summary=page, regressions=len(bad))
        self.history.end(self.night.id, datetime.now(UTC).isoformat(timespec="seconds"), self.notes)
        lines = [*map(summary.line_of, summary.worst_first(self.done)), *self.notes, f"summary: {page}"]
        if bad:
            named = ", ".join(f"{result.cell.name} is {result.outcome}" for result in summary.worst_first(bad))
            lines.append(f"exit code 1: {named}")
        return Ended(self.night.id, 1 if bad else 0, lines, self.done)

    # --- the plan ---------------------------------------------------------------------------------------

    def _ordered(self) -> list[CellConfig]:
        """The cells that are left."""
        measured = {result.cell.name for result in self.done}
        left = [cell for cell in self.config.cells if cell.name not in measured]
        before = [n for n in reversed(self.nights) if n.id != self.night.id and n.origin == "night"]
        return plan.order(left, self.night.id, (self.history.results(night=night.id) for night in before))

    def _expected(self) -> dict[str, float]:
        """The seconds that each cell takes, about, that can be measured here."""
        keys = {cell.name: (cell, self.keys[cell.name]) for cell in self.config.cells}
        return {
            name: plan.expected_s(cell, self.config, self.history.results(key.id, device=key.device))
            for name, (cell, (key, why)) in keys.items()
            if not why
        }

    def _announce(self, expected: Plan) -> None:
        """Say what the night is going to be."""
        self.progress.phase(f"night {self.night.id}: {expected.words()}")
        if warning := expected.warning():
            self.progress.message(warning)
            self.notes.append(warning)

    def _left_s(self) -> float:
        return self.deadline - time.monotonic()

    def how_to_go_on(self) -> str:
        """What is said where the night is interrupted."""
        stored = f"{len(self.done)} of {counted(len(self.config.cells), 'cell')} stored"
        return f"{stored}; the same command goes on with this night within {_GOES_ON_S / 3600:.0f} hours"

    # --- one cell -----------------------------------------------------------------------------------------

    def _cell(self, cell: CellConfig) -> CellNight:
        """Measure and judge one cell. Whatever is wrong with it is its outcome."""
        began = time.monotonic()
        key, why = self.keys[cell.name]
        everything = self.history.results(key.id)
        past = comparable(everything, self.by_id, self.ancestors, self.night.branch)
        if why:
            return self._stored(key, Measured().failed(Outcome.MISSING, why), "", past, began)
        past = [night for night in past if night.cell.device == key.device]
        expected_s = self.expected[cell.name]
        if not plan.fits(expected_s, self._left_s()):
            left = duration(max(self._left_s(), 0.0))
            why = f"{NO_TIME}: {left} left, and it takes about {duration(expected_s)}"
            return self._stored(key, Measured().failed(Outcome.MISSING, why), "", past, began)
        artifacts, accepted = Artifacts(self.out, key.id), self.history.acceptances(key.id)
        reference = artifacts.reference(past, accepted)
        return self._measured(cell, key, reference, past, began)

    def _measured(
        self, cell: CellConfig, key: CellKey, reference: Reference | None, past: Sequence[CellNight], began: float
    ) -> CellNight:
        often = 1 if reference is None else comparisons(past, CODE, reference.night)
        job = Job(cell, self.config, reference, self.out / "work" / key.id, self._left_s, comparisons=often)
        job.work.mkdir(parents=True, exist_ok=True)
        measurer = self.measurers[cell.kind]
        try:
            measured = measurer.measure(job)
        except (TunerError, OSError) as error:
            files.require_room(self.out)  # where the disk is full, it is not the cell
            measured = Measured().failed(Outcome.BROKEN, error.message if isinstance(error, TunerError) else str(error))
        name = "" if reference is None else reference.night
        if cell.kind == "space":
            accepted = self.history.acceptances(key.id)
            name = accepted[-1].night if accepted else ""
        findings = []
        if measured.outcome is Outcome.SAME or measured.seconds:
            context = Context(past, self.by_id, self.night, name)
            findings = judge(measured, context, self._again(job, measurer, measured, self.expected[cell.name]))
        artifacts = Artifacts(self.out, key.id)
        if measured.run is not None and measured.outcome is Outcome.SAME:
            artifacts.keep(self.night.id, measured.run)
            name = name or self.night.id
        artifacts.drop_old(name, self.history.acceptances(key.id), list(self.by_id))
        shutil.rmtree(job.work, ignore_errors=True)
        return self._stored(key, measured, name, past, began, findings)

    def _again(self, job: Job, measurer: Measurer, measured: Measured, expected_s: float) -> Again:
        """More measurements, as long as the night has time for them. A second comparison is made once."""
        confirmed: dict[str, float] = {}
        tried = False

        def confirm() -> Mapping[str, float]:
            nonlocal tried
            if not tried and self._left_s() > self.config.compare_s:
                self.progress.message(f"{job.cell.name}: a suspect, compared again in reversed order")
                confirmed.update(measurer.confirm(job, measured))
            tried = True
            return confirmed

        def search(number: int) -> float | None:
            if self._left_s() < expected_s:
                return None
            self.progress.message(f"{job.cell.name}: searched again, seed {job.cell.seed + number}")
            return measurer.search_again(job, measured, job.cell.seed + number)

        def at_commit(commit: str) -> float | None:
            if self._left_s() < expected_s or not commits.clean(commit):
                return None
            self.progress.message(f"{job.cell.name}: built by {commit[:12]} with today's libraries")
            folder = job.work / "earlier"
            try:
                with worktree(commits.clean(commit), folder, self.progress.message, sys.executable) as tree:
                    return measurer.rebuilt_by(dataclasses.replace(job, work=folder, tree=tree))
            except TunerError:
                return None

        return Again(confirm, search, self.config.searches, at_commit)

    def _stored(
        self, key: CellKey, measured: Measured, reference: str, past: Sequence[CellNight], began: float,
        findings: Sequence[Finding] = (),
    ) -> CellNight:  # fmt: skip
        if measured.outcome in (Outcome.MISSING, Outcome.BROKEN):
            findings = [absent(measured, past), *findings]
        return CellNight(
            self.night.id, key, outcome_of(measured, findings), reason_of(measured, findings, past), reference,
            measured.seconds, measured.ratios, measured.intervals, measured.structure, measured.texts, tuple(findings),
            tuple(measured.notes), measured.facts, time.monotonic() - began, measured.samples,
        )  # fmt: skip


def _set_aside(database: str, told: Sequence[str]) -> list[str]:
    """Notes on damaged files beside a database that no night has told of: set aside since the last night."""
    file = engine.file_of(engine.make(database)[0])
    if file is None:
        return []
    names = sorted(path.name for path in file.parent.glob(f"{file.name}.damaged-*"))
    new = [n for n in names if not n.endswith(("-wal", "-shm")) and not any(n in note for note in told)]
    said = "the database was damaged before this night began and set aside as {}: what could be read of it went on"
    return [said.format(name) for name in new]


def _age_s(night: Night, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(night.began_at)).total_seconds()
    except (ValueError, TypeError):
        return float("inf")
