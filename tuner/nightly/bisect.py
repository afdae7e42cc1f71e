"""`history bisect CELL GOOD BAD`: the commit that changed a cell.

On the structure where it decides (the rebuilt code's hash is that of the good or of the bad commit), else on times
paired with the reference. It stops by itself and says what it is sure of.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner import files
from tuner.errors import UserError
from tuner.nightly import commits
from tuner.nightly.artifacts import Artifacts
from tuner.nightly.backfill import at, cell_of, here
from tuner.nightly.compared import REBUILT
from tuner.nightly.config import NightConfig
from tuner.nightly.measuring import Measured
from tuner.nightly.night import GOING_ON
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.statistics import LEAST
from tuner.nightly.summary import percent
from tuner.nightly.verdicts import CODE, WHOLE
from tuner.nights import Outcome
from tuner.progress import Progress
from tuner.store.history import History
from tuner.store.holding import held

_TRIES = 3
"""Measurements of one commit whose time lies between good and bad, before it counts as unknown."""

_CLEAR = 0.25
"""A value this near to the middle (of the distance from good to bad) says neither."""

Ask = Callable[[str], bool | None]
"""Whether a commit is bad; None where that cannot be told."""


def narrow(candidates: Sequence[str], ask: Ask) -> list[str]:
    """The commits among which the first bad one is; `candidates` are those after the good one, the last one is bad.

    One that cannot be told is stepped over; where only such ones are left before the first bad one, all of them are
    returned, oldest first. `ask` is called once for each at most.
    """
    low, high = 0, len(candidates) - 1  # the first bad one is among [low, high]
    unknown: set[int] = set()
    while low < high:
        middle = (low + high - 1) // 2
        open_ones = [index for index in range(low, high) if index not in unknown]
        if not open_ones:
            break
        index = min(open_ones, key=lambda i: abs(i - middle))
        bad = ask(candidates[index])
        if bad is None:
            unknown.add(index)
        elif bad:
            high = index
        else:
            low = index + 1
    return list(candidates[low : high + 1])


@dataclass
class Evidence:
    """What decides between good and bad: measured at both ends. `series` is None where structure decides."""

    good: Measured
    bad: Measured
    series: str | None = None
    said: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, good: Measured, bad: Measured) -> Evidence:
        """Raises UserError where the two ends do not differ."""
        hashes = [end.texts.get(f"{REBUILT}.code_hash") for end in (good, bad)]
        series = next((s for s in (SPACE, CODE, WHOLE) if s in good.ratios and s in bad.ratios), None)
        if series is None:
            reasons = [f"{name}: {end.reason or 'no ratio to the reference'}" for name, end in
                       (("good", good), ("bad", bad)) if not end.ratios]  # fmt: skip
            raise UserError(f"nothing to tell good from bad by: {'; '.join(reasons)}", "choose other ends")
        apart = bad.ratios[series] - good.ratios[series]
        noise = max(LEAST, *(_half(end, series) for end in (good, bad)))
        if abs(apart) <= 2.0 * noise:
            raise UserError(
                f"good and bad do not differ here: {series} {percent(apart)}, with {percent(noise)} of noise",
                "a difference that is not seen cannot be followed; look at: tuner history show",
            )
        said = [f"{series}: {percent(apart)} from good to bad"]
        if series == CODE and None not in hashes and hashes[0] != hashes[1]:
            return cls(good, bad, None, [*said, "decided by the instructions of the rebuilt code"])
        how = "what is found with each seed" if series == SPACE else "times paired with the reference"
        return cls(good, bad, series, [*said, f"decided by {how}"])

    def is_bad(self, one: Measured) -> bool | None:
        """Whether what was measured is like the bad end; None where it is like neither."""
        if self.series is None:
            code = one.texts.get(f"{REBUILT}.code_hash")
            if code in (known := [end.texts[f"{REBUILT}.code_hash"] for end in (self.good, self.bad)]):
                return code == known[1]
        series = self.series or CODE
        if series not in one.ratios:
            return None
        good, bad = self.good.ratios[series], self.bad.ratios[series]
        place = (one.ratios[series] - good) / (bad - good)
        return None if abs(place - 0.5) < _CLEAR / 2 else place > 0.5


def _half(end: Measured, series: str) -> float:
    low, high = end.intervals.get(series, (0.0, 0.0))
    return (high - low) / 2.0


def bisect(history: History, config: NightConfig, name: str, good: str, bad: str, *, progress: Progress) -> list[str]:
    """The commit after `good`, up to `bad`, that changed a cell. Returns lines to print. Raises TunerError."""
    cell, ends = cell_of(config, name), [commits.resolve(commit) for commit in (good, bad)]
    candidates = commits.between(*ends)
    if not candidates:
        raise UserError(f"{good} and {bad} are the same commit", "give two")
    key, out = here(cell), Path(config.out)
    with files.locked(out / ".lock", GOING_ON), held(history.url, GOING_ON):
        results = [r for r in history.results(key.id) if r.cell.device == key.device]
        reference = Artifacts(out, key.id).reference(results, history.acceptances(key.id))

        def measure(commit: str) -> Measured:
            return at(commit=commit, cell=cell, config=config, reference=reference, then=_nothing, say=progress)[0]

        if reference is None and cell.kind != "space":
            raise UserError(f"{name}: no reference is here to measure against", "run a night first")
        evidence = Evidence.of(measure(ends[0]), measure(ends[1]))
        reasons: dict[str, str] = {}

        def ask(commit: str) -> bool | None:
            for _ in range(_TRIES):
                one = measure(commit)
                told = evidence.is_bad(one)
                progress.message(f"{commit[:12]}: {'unknown' if told is None else 'bad' if told else 'good'}")
                if told is not None or one.outcome is Outcome.BROKEN:
                    break
            if told is None:
                reasons[commit] = one.reason or "it lies between good and bad"
            return told

        found = narrow(candidates, ask)
        shutil.rmtree(out / "backfill", ignore_errors=True)
    return [*evidence.said, *_told(found, reasons)]


def _nothing(*_: object) -> tuple[()]:
    return ()


def _told(found: Sequence[str], reasons: dict[str, str]) -> list[str]:
    """What is sure, in lines."""
    if len(found) == 1:
        return [f"the first bad commit is {_title(found[0])}"]
    lines = [f"the first bad commit is one of these {len(found)}; the others between could not be told:"]
    return [*lines, *(f"  {_title(commit)}{_why(reasons.get(commit))}" for commit in found)]


def _title(commit: str) -> str:
    return f"{commit[:12]} {commits.git('log', '-1', '--format=%s', commit) or ''}".strip()


def _why(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
