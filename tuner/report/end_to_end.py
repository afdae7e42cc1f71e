"""The whole model against its baselines: times, verdicts and speedups of the entries, and the headline in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.caveats import Caveat, Caveats
from tuner.records import Label, Status
from tuner.report import summary as summary_file
from tuner.report import units

TUNED, UNTUNED = "tuned", "untuned"
"""The keys of these entries; the others are those of baselines."""

TUNED_NAME = "tuned (this run)"

SAME_WITHIN = 0.005
"""Differences under half a percent never count; see `measure.stats.MEANINGFUL`."""

_UNREPEATED = 0.10  # a time without an interval is trusted to this part of itself only
_NOTHING: Mapping[str, Any] = {"median_s": None, "interval_s": None}


@dataclass(frozen=True)
class Entry:
    """One way to run the model. `label` is the verdict of the tuned model against it and `speedup` how many times as
    fast the tuned model is; both None where one of the two was not timed.

    Both are of the same statistic: where a summary, of an earlier version, has the verdict of the paired comparison and
    not its ratio, the speedup is None. `mixed`: they are of all states of the machine together. `first_call` is the
    same for the first call after a rest. `across`: what it computes in, where that is not what the tuned model does.
    """

    key: str
    name: str
    median_s: float | None
    interval_s: Sequence[float] | None
    label: Label | None = None
    speedup: float | None = None
    mixed: bool = False
    first_call: Entry | None = None
    load_s: float | None = None
    peak_bytes: int | None = None
    across: str = ""


@dataclass(frozen=True)
class Headline:
    """`outcome` is `good`, `bad` or `open`: whether the result is a gain, a loss, or not decided."""

    outcome: str
    sentences: tuple[str, ...]


def entries(summary: Mapping[str, Any]) -> list[Entry]:
    """The tuned model first, then untuned TVM, then the baselines; empty when the whole model was not compared."""
    whole = summary["end_to_end"]
    if whole is None:
        return []
    times = {name: value or _NOTHING for name, value in whole["baselines"].items()}
    untuned = times.pop(UNTUNED, _NOTHING)
    if untuned["median_s"] is None:
        untuned = {"median_s": whole["untuned_s"], "interval_s": None}
    tuned = Entry(TUNED, TUNED_NAME, whole["tuned_s"], whole["interval_s"])
    listed = [tuned, *(_entry(key, value, whole) for key, value in {UNTUNED: untuned, **times}.items())]
    first_calls = {entry.key: entry for entry in _stated(whole.get("first_calls", {}))}
    return [
        dataclasses.replace(
            entry,
            mixed=entry.key in whole.get("mixed", ()),
            first_call=first_calls.get(entry.key),
            load_s=whole.get("load_s", {}).get(entry.key),
            peak_bytes=whole.get("peak_bytes", {}).get(entry.key),
        )
        for entry in _with_precisions(listed, summary)
    ]


def _with_precisions(listed: Sequence[Entry], summary: Mapping[str, Any]) -> list[Entry]:
    """The entries, of which those say so that compute in another precision than the tuned model."""
    words = [_across(summary, entry.key) for entry in listed]
    return [
        dataclasses.replace(entry, name=f"{entry.name}{across}", across=across)
        for entry, across in zip(listed, words, strict=True)
    ]


def _across(summary: Mapping[str, Any], key: str) -> str:
    """What an entry computes in, where that is not what the tuned model was asked for: in words, for its name."""
    known = summary.get("precision") or {}
    precision = known.get("entries", {}).get(key, "")
    asked = known.get("asked", "")
    return f" (in {precision}, not {asked})" if precision and precision != asked else ""


def other_states(summary: Mapping[str, Any]) -> dict[str, list[Entry]]:
    """The entries in every state of the machine but the one that `entries` are of, the tuned model first."""
    whole = summary["end_to_end"] or {}
    states = {
        state: _with_precisions(_stated(found["entries"]), summary) for state, found in whole.get("states", {}).items()
    }
    return {
        state: listed
        for state, listed in states.items()
        if state != whole.get("state") and listed and listed[0].key == TUNED
    }


def _stated(stated: Mapping[str, Any]) -> list[Entry]:
    """Entries as the summary states them one by one."""
    order = sorted(stated, key=lambda key: (key != TUNED, key != UNTUNED))
    return [
        Entry(
            key,
            TUNED_NAME if key == TUNED else units.baseline_name(key),
            stated[key]["median_s"],
            stated[key]["interval_s"],
            None if stated[key]["verdict"] is None else Label(stated[key]["verdict"]),
            None if stated[key]["ratio"] is None else 1.0 / stated[key]["ratio"],
        )
        for key in order
    ]


def _entry(key: str, time: Mapping[str, Any], whole: Mapping[str, Any]) -> Entry:
    name, median_s, interval_s = units.baseline_name(key), time["median_s"], time["interval_s"]
    tuned_s = whole["tuned_s"]
    if tuned_s is None or median_s is None:
        return Entry(key, name, median_s, interval_s)
    paired = _paired_label(key, time, whole)
    if paired is None:
        label = compare_intervals(tuned_s, whole["interval_s"], median_s, interval_s)
        return Entry(key, name, median_s, interval_s, label, median_s / tuned_s)
    ratio = whole.get("ratios", {}).get(key)
    return Entry(key, name, median_s, interval_s, paired, None if ratio is None else 1.0 / ratio)


def _paired_label(key: str, time: Mapping[str, Any], whole: Mapping[str, Any]) -> Label | None:
    """The verdict of a paired comparison where the run made one; it is sharper than two intervals."""
    stated = whole.get("verdicts", {}).get(key) or time.get("verdict")
    return None if stated in (None, summary_file.NOT_TUNED) else Label(stated)


def compare_intervals(
    first_s: float, first: Sequence[float] | None, second_s: float, second: Sequence[float] | None
) -> Label:
    """The verdict on one time against another, in seconds with their 95 % intervals.

    Decided only when the intervals are apart by more than half a percent.
    """
    low, high = _ends(first_s, first)
    other_low, other_high = _ends(second_s, second)
    least, most = math.log(other_low / high), math.log(other_high / low)  # of the first one's speedup
    if least > SAME_WITHIN:
        return Label.FASTER
    if most < -SAME_WITHIN:
        return Label.SLOWER
    return Label.SAME if max(abs(least), abs(most)) <= SAME_WITHIN else Label.UNDECIDED


def _ends(value: float, interval: Sequence[float] | None) -> tuple[float, float]:
    return (interval[0], interval[1]) if interval else (value / (1 + _UNREPEATED), value * (1 + _UNREPEATED))


# --- the headline -------------------------------------------------------------------------------


def headline(summary: Mapping[str, Any]) -> Headline:
    """Whether the tuned model is faster than untuned TVM and than the best baseline, in each state of the machine, and
    what the search cost."""
    whole, name = summary["end_to_end"], summary["model"]["name"]
    if whole is None or whole["tuned_s"] is None:
        return Headline("open", (_untimed(summary), *Caveats.of_summary(summary).sentences, _effort(summary)))
    _, untuned, *baselines = entries(summary)
    best, caveats = best_of(baselines), Caveats.of_summary(summary)
    phrases = [] if untuned.label is None else [_phrase(untuned, untuned.name)]
    phrases += _against_best(best, caveats.model)
    compared = f": {', and '.join(phrases)}" if phrases else ", with nothing to compare it with"
    missing = "" if best is not None else " No baseline was measured."
    time = caveats.model.beside(units.milliseconds(whole["tuned_s"], whole["interval_s"]))
    where = units.in_state(whole.get("state"))
    sentence = f"{name} runs in {time}{where}{compared}; {_verified(whole)}.{missing}"
    named = [entry for entry in (untuned, best) if entry is not None and entry.label is not None]
    wrong = "WRONG RESULTS: " if whole["verified"] is False else ""
    outcome = _outcome(whole["verified"], [entry.label for entry in named], best is not None)
    others = other_states(summary)
    if outcome == "good" and any(entry.label is Label.SLOWER for listed in others.values() for entry in listed):
        outcome = "open"  # a gain in one state, a loss in another
    elsewhere = [_elsewhere(state, listed, caveats.model) for state, listed in others.items()]
    return Headline(outcome, (wrong + sentence, *elsewhere, *caveats.sentences, _effort(summary)))


def best_of(baselines: Sequence[Entry]) -> Entry | None:
    """The baseline over which the tuned model's speedup is the least; by the medians where no speedup is known."""
    timed = [entry for entry in baselines if entry.median_s is not None]
    compared = [entry for entry in timed if entry.speedup is not None]
    if compared:
        return min(compared, key=lambda entry: entry.speedup or 0.0)
    return min(timed, key=lambda entry: entry.median_s or 0.0, default=None)


def _elsewhere(state: str, listed: Sequence[Entry], caveat: Caveat) -> str:
    """What holds in another state of the machine."""
    tuned, *others = listed
    phrases = _against_best(best_of([entry for entry in others if entry.key != UNTUNED]), caveat)
    compared = f": {phrases[0]}" if phrases else ""
    time = caveat.beside(units.milliseconds(tuned.median_s, tuned.interval_s))
    return f"It runs in {time}{units.in_state(state)}{compared}."


def _against_best(best: Entry | None, caveat: Caveat) -> list[str]:
    if best is None:
        return []
    return [_phrase(best, f"the best baseline, {best.name} at {caveat.beside(units.milliseconds(best.median_s))}")]


def _outcome(verified: bool | None, labels: Sequence[Label | None], any_baseline: bool) -> str:
    if verified is False or Label.SLOWER in labels:
        return "bad"
    return "good" if any_baseline and verified is True and Label.UNDECIDED not in labels else "open"


def _phrase(entry: Entry, name: str) -> str:
    known = [] if entry.speedup is None else [f"speedup {units.speedup(entry.speedup)}"]
    in_brackets = f" ({known[0]})" if known else ""
    if entry.label is Label.FASTER:
        return f"faster than {name}{in_brackets}"
    if entry.label is Label.SLOWER:
        return f"slower than {name}{in_brackets}"
    if entry.label is Label.SAME:
        return f"as fast as {name}, within the noise of the comparison{in_brackets}"
    return f"not clearly faster or slower than {name} ({', '.join([*known, 'within the noise'])})"


def _untimed(summary: Mapping[str, Any]) -> str:
    kernels = summary["kernels"]
    faster = sum(kernel["verdict"] == Label.FASTER for kernel in kernels)
    return (
        f"{summary['model']['name']} was not timed end to end, so there is no verdict on the whole model;"
        f" {faster} of its {len(kernels)} kernels became faster."
    )


def _verified(whole: Mapping[str, Any]) -> str:
    error = whole["max_rel_error"]
    detail = "" if error is None else f" (max relative error {units.digits(error)})"
    if whole["verified"] is None:
        return f"its outputs were NOT verified{detail}"
    if whole["verified"]:
        return f"all outputs verified{detail}"
    return f"its outputs do not agree with the reference{detail}"


def measurements(search: Mapping[str, Any]) -> str:
    """How many measurements a search made, and what for: `62 measurements (40 trials: 36 candidates, 4 untuned
    programs; 12 to rank finalists; 10 to certify)`."""
    counts = search.get("counts") or {}
    tried = {
        "candidates": "candidates", "untuned": "untuned programs",
        "beginnings": "candidates of kernels that the search did not reach",
    }  # fmt: skip
    trials = [f"{units.count(counts[key])} {what}" for key, what in tried.items() if counts.get(key)]
    total = sum(counts.get(key, 0) for key in tried)
    parts = [f"{units.count(total)} trials: {', '.join(trials)}"] if trials else []
    words = {"rank": "to rank finalists", "certify": "to certify"}
    parts += [f"{units.count(counts[key])} {purpose}" for key, purpose in words.items() if counts.get(key)]
    made = f"{units.count(search['measured'])} measurements"
    return f"{made} ({'; '.join(parts)})" if counts else made


def _effort(summary: Mapping[str, Any]) -> str:
    search = summary["search"]
    failed = sum(number or 0 for kind, number in search["failed"].items() if kind != Status.CENSORED)
    counts = [measurements(search), f"{units.count(failed)} failed"]
    counts += [f"{units.count(search['reused'])} reused from earlier runs"] if search["reused"] else []
    ended = f"; stopped by {search['stopped_by']}" if search["stopped_by"] else ""
    return f"Search ({search['strategy']}) took {units.duration(search['wall_s'])}: {', '.join(counts)}{ended}."
