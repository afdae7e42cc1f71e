"""`history backfill CELL COMMIT`: nights at other commits, measured today beside today's reference."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tuner import environment, files
from tuner.errors import UserError
from tuner.nightly import commits, installed, requests
from tuner.nightly.artifacts import Artifacts
from tuner.nightly.config import CellConfig, NightConfig
from tuner.nightly.lines import Context, comparable
from tuner.nightly.measuring import Job, Measured, Measurer, Reference
from tuner.nightly.night import GOING_ON, default_measurers
from tuner.nightly.summary import line_of
from tuner.nightly.verdicts import Again, absent, judge, outcome_of, reason_of
from tuner.nightly.worktrees import Unbuildable, worktree
from tuner.nights import CellKey, CellKind, CellNight, Finding, Night, Outcome
from tuner.progress import Progress
from tuner.store.history import History
from tuner.store.holding import held

ALL = "all"

_LONGEST_S = 7200.0
"""Of one cell at one commit."""

Then = Callable[[Job, Measurer, Measured], Sequence[Finding]]
"""What is done with what was measured, while the commit's worktree is there."""


def cell_of(config: NightConfig, name: str) -> CellConfig:
    """A cell of a night by its name. Raises UserError."""
    cell = config.cell(name)
    if cell is None:
        names = ", ".join(c.name for c in config.cells)
        raise UserError(f"no cell {name!r} in the file of the night", f"there are: {names}")
    return cell


def here(cell: CellConfig) -> CellKey:
    """The key of a cell that can be measured here. Raises UserError."""
    key, why = _key(cell)
    if why:
        raise UserError(f"{cell.name}: {why}", "measure it where that is")
    return key


def backfill(
    history: History, config: NightConfig, name: str, at_commits: Sequence[str], progress: Progress
) -> list[str]:
    """Measure a cell (`all`: every cell that can be measured here) at commits, in their order; judge what was measured,
    and store it as one night a commit. Returns lines to print.

    Each of `at_commits` is a commit, or `A..B` for those after A up to B. A commit's own program searches and builds;
    today's times what it made, interleaved with the cell's reference. A commit that does not build is stored as broken;
    one of several that has a night of the cell is left out, so that what was interrupted goes on. Raises TunerError.
    """
    cells = [c for c in config.cells if not _why_not(c)] if name == ALL else [cell_of(config, name)]
    keys = {cell.name: here(cell) for cell in cells}
    listed = [full for text in at_commits for full in _commits(text)]
    lines: list[str] = []
    with files.locked(Path(config.out) / ".lock", GOING_ON), held(history.url, GOING_ON):
        for number, full in enumerate(listed):
            files.require_room(Path(config.out))
            left = [c for c in cells if len(listed) == 1 or not _filled(history, keys[c.name], full)]
            if not left:
                continue
            progress.phase(f"commit {number + 1} of {len(listed)}")
            night = _night(history, full)
            results = [_measured(history, config, cell, keys[cell.name], night, progress) for cell in left]
            history.begin(night)
            for result in results:
                history.add(result)
            history.end(night.id, _now(), ["measured later, for a commit of the past: absolute times are of that day"])
            lines += [*map(line_of, results), f"stored as night {night.id}, commit {full[:12]}"]
            shutil.rmtree(Path(config.out) / "backfill", ignore_errors=True)
    return lines or ["every commit has a night of the cell already"]


def _commits(text: str) -> list[str]:
    first, dots, last = text.partition("..")
    return commits.between(commits.resolve(first), commits.resolve(last)) if dots else [commits.resolve(text)]


def _why_not(cell: CellConfig) -> str:
    return _key(cell)[1]


def _key(cell: CellConfig) -> tuple[CellKey, str]:
    return requests.keys_of([cell], "the file of the night")[cell.name]


def _filled(history: History, key: CellKey, commit: str) -> bool:
    there = {night.id for night in history.nights() if night.origin == "backfill" and night.commit == commit}
    return any(result.night in there for result in history.results(key.id))


def _measured(
    history: History, config: NightConfig, cell: CellConfig, key: CellKey, night: Night, progress: Progress
) -> CellNight:
    """One cell at a night's commit. Its artifact is kept."""
    began = time.monotonic()
    nights = {n.id: n for n in history.nights()}
    results = [r for r in history.results(key.id) if r.cell.device == key.device]
    past = comparable(results, nights, commits.ancestors(night.commit), night.branch)
    artifacts, accepted = Artifacts(Path(config.out), key.id), history.acceptances(key.id)
    reference = artifacts.reference(results, accepted)

    def judged(job: Job, measurer: Measurer, measured: Measured) -> Sequence[Finding]:
        again = Again(
            lambda: measurer.confirm(job, measured),
            lambda number: measurer.search_again(job, measured, cell.seed + number), config.searches,
        )  # fmt: skip
        context = Context(past, nights | {night.id: night}, night, "" if reference is None else reference.night)
        return judge(measured, context, again) if measured.ratios or measured.seconds else ()

    measured, findings = at(
        commit=night.commit, cell=cell, config=config, reference=reference, then=judged, say=progress
    )
    if measured.outcome is not Outcome.SAME:
        findings = (absent(measured, past), *findings)
    name_of_reference = reference.night if reference is not None else night.id if measured.run is not None else ""
    if measured.run is not None and measured.outcome is Outcome.SAME:
        artifacts.keep(night.id, measured.run)
        artifacts.drop_old(name_of_reference, accepted, [*nights, night.id])
    return CellNight(
        night.id, key, outcome_of(measured, findings), reason_of(measured, findings, past), name_of_reference,
        measured.seconds, measured.ratios, measured.intervals, measured.structure, measured.texts, tuple(findings),
        tuple(measured.notes), measured.facts, time.monotonic() - began, measured.samples,
    )  # fmt: skip


def at(
    *, commit: str, cell: CellConfig, config: NightConfig, reference: Reference | None, then: Then, say: Progress
) -> tuple[Measured, Sequence[Finding]]:
    """A cell measured at a commit, and what `then` makes of it. A commit that cannot be set up is BROKEN.

    Call it only while the folder of the nights is locked. Raises InfrastructureError where the machine failed: that
    tells nothing of the commit.
    """
    out = Path(config.out)
    work = (out / "backfill" / commit[:12]).absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    say.phase(f"{cell.name} at {commit[:12]}")
    deadline = time.monotonic() + _LONGEST_S
    try:
        with worktree(commit, out / "worktrees", say.message) as tree:
            job = Job(cell, config, reference, work, lambda: deadline - time.monotonic(), tree)
            measurer = default_measurers()[CellKind(cell.kind)]
            measured = measurer.measure(job)
            return measured, then(job, measurer, measured)
    except Unbuildable as error:
        return Measured().failed(Outcome.BROKEN, f"commit {commit[:12]}: {error}"), ()
    except (UserError, OSError) as error:
        files.require_room(out)
        return Measured().failed(Outcome.BROKEN, error.message if isinstance(error, UserError) else str(error)), ()


def _night(history: History, commit: str) -> Night:
    captured = environment.capture()
    taken = {night.id for night in history.nights()}
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = next(n for i in range(10_000) if (n := f"{stamp}-{i}" if i else stamp) not in taken)
    return Night(
        name, _now(), commit, commits.branch(), environment.environment_id(captured),
        installed.versions(captured["packages"]), installed.machine(captured), origin="backfill",
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
