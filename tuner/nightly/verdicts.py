"""The verdict on a cell's night: better, worse, same, undecided, missing or broken; and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuner.nightly import causes, commits
from tuner.nightly.causes import Changes
from tuner.nightly.compared import OURS, REBUILT, REFERENCE, SEARCHED
from tuner.nightly.lines import Context, Line, line, machine_differs, since_break
from tuner.nightly.measuring import Measured
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.statistics import LEAST, Suspicion, confirms, suspicion
from tuner.nightly.structure import MORE_IS_BETTER
from tuner.nights import Cause, CellNight, Finding, Outcome

CODE = f"{REBUILT}/{REFERENCE}"
SEARCH = f"{SEARCHED}/{REBUILT}"
WHOLE = f"{SEARCHED}/{REFERENCE}"

COLD_SEARCH = 0.10
"""The threshold of a search series whose luck is not known yet."""
COLD_MACHINE = 0.30
"""The same of absolute times: those of one program differ by a quarter between jobs."""

_STUDENT_99 = {2: 63.66, 3: 9.925, 4: 5.841, 5: 4.604, 6: 4.032, 7: 3.707, 8: 3.499, 9: 3.355, 10: 3.25}
"""Student's t at 99.5 % by the number of values; beyond, it is 3.2 at most."""

EXACT = ("instructions", "vector_share", "kernels", "kernel_calls", "bytes_moved", "bytes_allocated", "library_bytes")
"""Structural series of candidates that are kept, which are compiled to the same code every time: any change beyond
LEAST is one. Another search finds other code, so that the same series of `searched` have noise like any other."""
FIRST_NIGHT = "first night: there is nothing to compare with"
NO_REFERENCE = "no artifact of an earlier night is here to compare with: this night makes the reference"


@dataclass(frozen=True)
class Again:
    """How more is measured where a verdict needs it. `confirm`: the log ratios of a second, reversed comparison;
    `search`: the log ratio that a further seed gives; `at_commit`: that of the rebuilt model to the reference where
    another commit builds it with today's libraries. Each may have nothing: no time, or it failed. `searches`: how many
    seeds there are to be in all."""

    confirm: Callable[[], Mapping[str, float]]
    search: Callable[[int], float | None]
    searches: int
    at_commit: Callable[[str], float | None] = lambda commit: None


def is_exact(series: str) -> bool:
    """Whether a structural series, by its name, has no noise."""
    entry, _, name = series.partition(".")
    return name in EXACT and entry in (REFERENCE, REBUILT)


def judge(measured: Measured, context: Context, again: Again) -> list[Finding]:
    """All findings on a cell that was measured, those on our own code first."""
    findings = []
    if CODE in measured.ratios:
        findings.append(_code(measured, context, again))
    series = next((name for name in (SPACE, SEARCH, WHOLE) if name in measured.ratios), None)
    if series == SPACE:
        findings.append(_space(measured, context))
    elif series is not None:
        findings.append(_search(series, measured, context, again))
    return [*findings, *told_beside(measured, context)]


def told_beside(measured: Measured, context: Context) -> list[Finding]:
    """What is found without measuring more: of the reference, the baselines and the structural series."""
    return [*_reference(measured, context), *_baselines(measured, context), *_structure(measured, context)]


def outcome_of(measured: Measured, findings: Sequence[Finding]) -> Outcome:
    """The worst of what was found of our own code; what is only told of others does not count. Undecided where there
    was nothing to compare with."""
    if measured.outcome is not Outcome.SAME:
        return measured.outcome
    own = _compared(findings)
    if not own:
        return Outcome.UNDECIDED
    order = (Outcome.WORSE, Outcome.UNDECIDED, Outcome.BETTER)
    return next((outcome for outcome in order if outcome in own), Outcome.SAME)


def reason_of(measured: Measured, findings: Sequence[Finding], past: Sequence[CellNight]) -> str:
    """Why a cell is missing or broken, or has nothing to compare with; else empty."""
    if measured.outcome is not Outcome.SAME or _compared(findings):
        return measured.reason
    return NO_REFERENCE if any(night.seconds for night in past) else FIRST_NIGHT


def _compared(findings: Sequence[Finding]) -> set[Outcome]:
    """The outcomes of our own series that had something to be compared with."""
    return {f.outcome for f in findings if f.series in (CODE, SEARCH, WHOLE, SPACE) and f.change is not None}


def absent(measured: Measured, past: Sequence[CellNight]) -> Finding:
    """The finding on a cell that is missing or broken."""
    last = next((night for night in reversed(past) if night.outcome not in (Outcome.MISSING, Outcome.BROKEN)), None)
    seen = "it was never measured before" if last is None else f"measured last in night {last.night}"
    broken = measured.outcome is Outcome.BROKEN
    confirmed, cause = (True if last is not None else None, None) if broken else (None, Cause.MISSING)
    return Finding("cell", measured.outcome, confirmed=confirmed, cause=cause, evidence=(measured.reason, seen))


def what_changed(context: Context, last_good: str, same_code: bool | None = None) -> Changes:
    """What differs between tonight and the last night in which a series stood at its level."""
    then, now = context.nights.get(last_good), context.tonight
    if then is None:
        return Changes(same_code=same_code)
    names = then.versions.keys() | now.versions.keys()
    versions = {n: (then.versions.get(n, ""), now.versions.get(n, "")) for n in names}
    return Changes(
        (then.commit, now.commit), commits.touched(then.commit, now.commit) if then.commit != now.commit else (),
        {n: pair for n, pair in versions.items() if pair[0] != pair[1]}, same_code, machine_differs(then, now),
    )  # fmt: skip


# --- our code ------------------------------------------------------------------------------------


def _code(measured: Measured, context: Context, again: Again) -> Finding:
    """Reference against rebuilt: today's compiler and code on candidates that are kept."""
    told = line(context.past, CODE, context.reference, relative=True)
    value = measured.ratios[CODE]
    suspect = suspicion(told.values, value, told.changes)
    interval = _shifted(measured.intervals.get(CODE), suspect.base)
    if not suspect.suspect:
        return _unsuspected(CODE, value, suspect, interval)
    second = again.confirm().get(CODE)
    if second is None:
        return _finding(CODE, value, suspect, interval, Outcome.UNDECIDED, None, None, ("no second run was made",))
    said = (suspect.sentence, f"second run, reversed order: {_percent(second - suspect.base)}", _since(told))
    if not confirms(suspect.threshold, suspect.change, second - suspect.base):
        return _finding(CODE, value, suspect, interval, Outcome.SAME, False, Cause.NOISE, said)
    changes = what_changed(context, told.last_good, _same_code(measured, context))
    earlier = again.at_commit(changes.commits[0]) if causes.needs_earlier_commit(changes) else None
    cause, evidence = causes.of_rebuilt(changes, None if earlier is None else (earlier - suspect.base) / suspect.change)
    outcome = Outcome.UNDECIDED if cause is Cause.NOISE else _direction(suspect.change)
    return _finding(CODE, value, suspect, interval, outcome, cause is not Cause.NOISE, cause, (*said, *evidence))


def _same_code(measured: Measured, context: Context) -> bool | None:
    """Whether the rebuilt library has the reference's instructions; None where one of them is not known."""
    made = next((night for night in context.past if night.night == context.reference), None)
    ours, theirs = measured.texts.get(f"{REBUILT}.code_hash"), made and made.texts.get(f"{SEARCHED}.code_hash")
    return None if ours is None or theirs is None else ours == theirs


def _search(series: str, measured: Measured, context: Context, again: Again) -> Finding:
    """Rebuilt against searched. One search is luck: others have to agree."""
    told = line(context.past, series, context.reference, relative=series == WHOLE)
    value = measured.ratios[series]
    if not told.values:
        return Finding(series, Outcome.UNDECIDED, value, evidence=("the first night of this series",))
    suspect = suspicion(told.values, value, told.changes, COLD_SEARCH)
    interval = _shifted(measured.intervals.get(series), suspect.base)
    if not suspect.suspect:
        return _unsuspected(series, value, suspect, interval)
    found = [again.search(number) for number in range(1, again.searches)]
    tonight = value - suspect.base
    tries = [tonight, *(ratio - suspect.base for ratio in found if ratio is not None)]
    if len(tries) < min(again.searches, 3):
        said: tuple[str, ...] = (f"searched with {len(tries)} of {again.searches} seeds: too few to tell it from luck",)
        return _finding(series, value, suspect, interval, Outcome.UNDECIDED, None, None, said)
    cause, said = causes.of_search(what_changed(context, told.last_good), tonight, tries, suspect.threshold)
    luck = cause is Cause.LUCK
    outcome = Outcome.SAME if luck else _direction(suspect.change)
    return _finding(series, value, suspect, interval, outcome, not luck, cause, (suspect.sentence, *said, _since(told)))


def _space(measured: Measured, context: Context) -> Finding:
    """A recorded space: seed by seed against the last night at its level. Nothing but the code can differ."""
    told = line(context.past, SPACE, context.reference, relative=False)
    value = measured.ratios[SPACE]
    then = next((night for night in reversed(context.past) if night.night == told.last_good), None)
    before = then.facts.get("by_seed") if then is not None else None
    now = measured.facts["by_seed"]
    if not isinstance(before, list) or len(before) != len(now):
        return Finding(SPACE, Outcome.UNDECIDED, value, evidence=("the first night of this series",))
    differences = [b - float(a) for a, b in zip(before, now, strict=True)]
    count, mean = len(differences), sum(differences) / len(differences)
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1))
    reach = _STUDENT_99.get(count, 3.2) * deviation / math.sqrt(count)
    suspect = Suspicion(value - mean, mean, LEAST, abs(mean) - reach > LEAST)
    interval = (mean - reach, mean + reach)
    if not suspect.suspect:
        said = "the same with every seed" if not any(differences) else f"mean over {count} seeds {_percent(mean)}"
        return _finding(SPACE, value, suspect, interval, Outcome.SAME, None, None, (said,))
    cause, said_of_cause = Cause.SEARCH, f"over {count} seeds, 99 % interval {_percent(mean - reach)} to "
    changes = what_changed(context, told.last_good)
    if changes.versions and not changes.committed:
        cause = Cause.LIBRARY
    said_of_cause += _percent(mean + reach)
    return _finding(SPACE, value, suspect, interval, _direction(mean), True, cause, (said_of_cause, _since(told)))


# --- everything else: told, never an alert ---------------------------------------------------------------------------


def _reference(measured: Measured, context: Context) -> list[Finding]:
    """The reference's own seconds against its last nights on this machine: the same bytes as ever."""
    changed = _change_of_seconds(REFERENCE, measured, context)
    if changed is None:
        return []
    told, suspect = changed
    if not suspect.suspect:
        return [_finding(REFERENCE, measured.seconds[REFERENCE], suspect, None, Outcome.SAME, None, None, ())]
    others = {n: _change_of_seconds(n, measured, context) for n in measured.seconds if n not in OURS}
    baselines = {name: found[1].change for name, found in others.items() if found is not None}
    changes = what_changed(context, told.last_good)
    cause, said = causes.of_reference(changes, suspect.change, baselines, suspect.threshold)
    outcome = _direction(suspect.change)
    return [_finding(REFERENCE, measured.seconds[REFERENCE], suspect, None, outcome, None, cause, said)]


def _change_of_seconds(entry: str, measured: Measured, context: Context) -> tuple[Line, Suspicion] | None:
    """An entry's seconds against its last nights on a machine as tonight's."""
    past = since_break(context.past, context.nights, context.tonight)
    told = line(past, entry, context.reference, relative=False, log=True)
    if not told.values or measured.seconds.get(entry, 0.0) <= 0:
        return None
    return told, suspicion(told.values, math.log(measured.seconds[entry]), told.changes, COLD_MACHINE)


def _baselines(measured: Measured, context: Context) -> list[Finding]:
    findings = []
    for name in (n for n in measured.seconds if n not in OURS):
        series = f"{name}/{REFERENCE}"
        told = line(context.past, series, context.reference, relative=False)
        if series not in measured.ratios or not told.values:
            continue
        suspect = suspicion(told.values, measured.ratios[series], told.changes)
        interval = _shifted(measured.intervals.get(series), suspect.base)
        cause: Cause | None = None
        said: tuple[str, ...] = ()
        if suspect.suspect:
            cause, said = causes.of_baseline(what_changed(context, told.last_good), name, suspect.change)
        outcome = _direction(suspect.change) if suspect.suspect else Outcome.SAME
        findings.append(_finding(series, measured.ratios[series], suspect, interval, outcome, None, cause, said))
    return findings


def _structure(measured: Measured, context: Context) -> list[Finding]:
    """What differs from the last night in instructions, memory and the like; what does not is left out. Where the noise
    of a series is not known yet, that is undecided."""
    findings = []
    for series, value in measured.structure.items():
        name = series.partition(".")[2]
        told = line(context.past, series, context.reference, relative=False, log=True)
        if not told.values or value <= 0:
            continue
        sign = -1.0 if name in MORE_IS_BETTER else 1.0
        if is_exact(series):
            change = math.log(value) - told.values[-1]
            suspect = Suspicion(told.values[-1], change, LEAST, abs(change) > LEAST)
        else:
            suspect = suspicion(told.values, math.log(value), told.changes, COLD_MACHINE)
        if suspect.suspect:
            before = math.exp(suspect.base)
            young = "its noise is not known yet" if suspect.young else ""
            said = (f"{value:.6g} after {before:.6g}", suspect.sentence, young or _since(told))
            found = Suspicion(before, sign * suspect.change, suspect.threshold, True)
            outcome = Outcome.UNDECIDED if young else _direction(found.change)
            findings.append(_finding(series, value, found, None, outcome, None, None, said))
    return findings


# --- making findings -----------------------------------------------------------------------------------------


def _unsuspected(series: str, value: float, told: Suspicion, interval: tuple[float, float] | None) -> Finding:
    if told.too_noisy:
        said = (f"too noisy to tell a change of 5 %: this series' threshold is {told.threshold:.1%}",)
        return _finding(series, value, told, interval, Outcome.UNDECIDED, None, None, said)
    young = "a young series: its noise is not known yet" if told.young else ""
    return _finding(series, value, told, interval, Outcome.SAME, None, None, (young,))


def _finding(
    series: str, value: float, told: Suspicion, interval: tuple[float, float] | None, outcome: Outcome,
    confirmed: bool | None, cause: Cause | None, evidence: Sequence[str],
) -> Finding:  # fmt: skip
    said = tuple(sentence for sentence in evidence if sentence)
    return Finding(series, outcome, value, told.base, told.change, told.threshold, interval, confirmed, cause, said)


def _direction(change: float) -> Outcome:
    return Outcome.WORSE if change > 0 else Outcome.BETTER


def _shifted(interval: tuple[float, float] | None, base: float) -> tuple[float, float] | None:
    return None if interval is None else (interval[0] - base, interval[1] - base)


def _since(told: Line) -> str:
    if told.open_since:
        return f"open since night {told.open_since}"
    return f"last at its level in night {told.last_good}" if told.last_good else ""


def _percent(change: float) -> str:
    return f"{math.expm1(change):+.1%}"
