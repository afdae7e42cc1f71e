"""What a night says of itself: lines for a terminal, and a page of Markdown. Worst first; trophies are shown, too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.structure import MORE_IS_BETTER
from tuner.nights import CellNight, Finding, Night, Outcome
from tuner.progress import milliseconds

ORDER = (Outcome.WORSE, Outcome.BROKEN, Outcome.MISSING, Outcome.UNDECIDED, Outcome.BETTER, Outcome.SAME)
_MARKS = {Outcome.WORSE: "\N{WARNING SIGN}", Outcome.BETTER: "\N{TROPHY}"}


def worst_first(results: Iterable[CellNight]) -> list[CellNight]:
    """Cells in the order in which they want to be looked at."""
    return sorted(results, key=lambda result: (ORDER.index(result.outcome), -_largest(result), result.cell.name))


def line_of(result: CellNight) -> str:
    """A cell's night in one line."""
    found = main_finding(result)
    said = f": {result.reason}" if result.reason else ""
    if found is not None and not said and found.change is not None:
        said = f": {sentence(found)}"
    return f"{result.cell.name}: {result.outcome}{said}"


def main_finding(result: CellNight) -> Finding | None:
    """The finding that a cell's outcome rests on: the first one with that outcome."""
    return next((f for f in result.findings if f.outcome is result.outcome), next(iter(result.findings), None))


def sentence(found: Finding) -> str:
    """A finding in words: the series, its change, the threshold beside it, and the cause."""
    if found.change is None:
        return "; ".join([found.series, *found.evidence])
    parts = [f"{found.series} {change_of(found)}"]
    if found.threshold is not None:
        parts[0] += f" (threshold {threshold_of(found)})"
    if found.cause is not None:
        parts.append(str(found.cause))
    return ", ".join([*parts, *found.evidence])


def change_of(found: Finding | None) -> str:
    """The change of a series in words; empty where there was nothing to compare with."""
    return "" if found is None or found.change is None else percent(_moved(found, found.change))


def threshold_of(found: Finding | None) -> str:
    """What the change is held against, on the side on which it lies: a change beyond it also reads so."""
    if found is None or found.threshold is None:
        return ""
    return percent(math.copysign(found.threshold, _moved(found, found.change or 0.0)))


def _moved(found: Finding, change: float) -> float:
    """A change as a reader sees it: down where a structural value went down, also where more would be better."""
    less = "." in found.series and found.series.rpartition(".")[2] in MORE_IS_BETTER
    return -change if less else change


def value_of(result: CellNight) -> str:
    """What a cell's own model takes, or how far a recorded space's searches stay behind its optimum; empty where
    nothing was measured."""
    if SPACE in result.ratios:
        return over_the_optimum(result.ratios[SPACE])
    seconds = result.seconds.get("searched", result.seconds.get("rebuilt"))
    return "" if seconds is None else result.caveat.beside(milliseconds(seconds))


def over_the_optimum(ratio: float) -> str:
    """A log ratio to the optimum of a recorded space in words."""
    return f"{math.expm1(ratio):.1%} over the optimum"


def percent(change: float) -> str:
    """A log ratio as a signed percentage: of some three digits that tell something."""
    value = math.expm1(change)
    return f"{value:+.2%}" if abs(value) < 0.1 else f"{value:+.0%}"


def markdown(night: Night, results: Sequence[CellNight], notes: Sequence[str]) -> str:
    """A night as a page of Markdown, in GitHub's dialect."""
    ordered = worst_first(results)
    counts = {outcome: sum(r.outcome is outcome for r in ordered) for outcome in ORDER}
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "no cells"
    parts = [f"# Night {night.id}", f"**{words}**; commit `{night.commit[:12] or 'unknown'}`, begun {night.began_at}"]
    rows = ["| cell | verdict | change | threshold | cause | value |", "|:--|:--|--:|--:|:--|--:|"]
    parts.append("\n".join([*rows, *map(_row, ordered)]))
    for result in ordered:
        if result.outcome is not Outcome.SAME:
            parts += _details(result)
    told = [f"- {escape(note)}" for note in notes]
    return "\n\n".join([*parts, *(["## Notes", "\n".join(told)] if told else [])]) + "\n"


def _row(result: CellNight) -> str:
    found = main_finding(result)
    cells = [
        escape(result.cell.name),
        f"{_MARKS.get(result.outcome, '')} {result.outcome}".strip(),
        change_of(found),
        threshold_of(found),
        "" if found is None or found.cause is None else str(found.cause),
        value_of(result),
    ]
    return f"| {' | '.join(cells)} |"


def _details(result: CellNight) -> list[str]:
    told = [result.reason] if result.reason else []
    told += [f"{f.outcome}: {sentence(f)}" for f in result.findings if f.outcome is not Outcome.SAME or f.cause]
    told += result.notes
    items = "\n".join(f"- {escape(text)}" for text in told)
    return [f"## {escape(result.cell.name)}: {result.outcome}", *([items] if items else [])]


def escape(text: str) -> str:
    """Text that shows as itself in a line or a cell of Markdown."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in r"\`*_{}[]|#~$!" else c for c in flat)


def _largest(result: CellNight) -> float:
    return max((abs(f.change) for f in result.findings if f.change is not None and f.regression), default=0.0)
