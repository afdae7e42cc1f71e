"""The ladder of a kernel (`tuner explain`): a file beside the run's summary, and what is shown of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.caveats import Caveat
from tuner.report import units
from tuner.report.tables import Kernel, Table

FOLDER = "explain"
"""In the folder of a run: `<task>.json`, and `<task>.html` to be read."""

_REASON = 110
"""Characters of a reason that the table has; the step itself has all of it."""

_MOST = 4
"""Ladders that a report shows: those of the kernels explained that take most of the model's time."""


def load_all(run: Path) -> list[dict[str, Any]]:
    """The ladders in the folder of a run; those that cannot be read are left out."""
    found = []
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            told = json.loads(path.read_bytes())
            _require(told)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
        found.append(told)
    return found


def _require(told: Mapping[str, Any]) -> None:
    """Raises LookupError or TypeError where a ladder lacks what is shown of it."""
    for rung in told["rungs"]:
        _ = rung["title"] + rung["tree"] + rung["reason"], rung["done"], rung["seconds"], rung["predicted_s"]
    _ = told["name"] + told["task"] + told["listing"]["code"], told["lower_bound_s"]


def heaviest(ladders: Sequence[Mapping[str, Any]], kernels: Sequence[Kernel]) -> list[Mapping[str, Any]]:
    """The ladders that a report shows: of its kernels those that take most of the model's time."""
    shares = {kernel.data["task"]: kernel.share or 0.0 for kernel in kernels}
    return sorted((told for told in ladders if told["task"] in shares), key=lambda told: -shares[told["task"]])[:_MOST]


def caveat_of(told: Mapping[str, Any]) -> Caveat:
    """What the times of a ladder are."""
    return Caveat.from_json(told.get("caveat"))


def headline(told: Mapping[str, Any]) -> Iterator[str]:
    """What came out, in one or two sentences."""
    first, last = told["rungs"][0]["seconds"], told["rungs"][-1]["seconds"]
    if first and last:
        times = caveat_of(told).beside(f"From {units.duration(first)} to {units.duration(last)}")
        yield f"{times}: {units.speedup(first / last)} the speed."
        gains = [(a["seconds"] / b["seconds"], b["title"]) for a, b in _timed_pairs(told["rungs"])]
        if gains:
            gain, title = max(gains)
            yield f"The largest step is “{title}”: {units.speedup(gain)}."
    else:
        yield "Not all of its steps could be timed."
    if padded := told.get("padded_share"):
        yield f"{100 * padded:.2g} % of its multiply-adds are padding, for whole tiles and vectors."


def _timed_pairs(rungs: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    timed = [rung for rung in rungs if rung["seconds"]]
    return list(itertools.pairwise(timed))


def table(told: Mapping[str, Any]) -> Table:
    """A row a rung."""
    rows, before = [], None
    for number, rung in enumerate(told["rungs"]):
        seconds = rung["seconds"]
        step = units.speedup(before / seconds) if before and seconds else "–"
        time = _reason(rung) if seconds is None else units.duration(seconds)
        predicted = rung["predicted_s"]
        guess = "–" if predicted is None else units.duration(predicted)
        rows.append((f"{number}. {rung['title']}", guess, time, _range(rung), step))
        before = seconds or before
    beside = caveat_of(told).beside
    return Table(("step", "predicted", beside("time"), beside("95 % interval"), "speedup"), tuple(rows))


def _reason(rung: Mapping[str, Any]) -> str:
    reason = " ".join(rung["reason"].split())
    return f"not timed ({reason if len(reason) <= _REASON else f'{reason[: _REASON - 1]}…'})"


def _range(rung: Mapping[str, Any]) -> str:
    ends = rung["interval_s"]
    return "–" if not ends else f"{units.duration(ends[0])} to {units.duration(ends[1])}"


def sentences(rung: Mapping[str, Any]) -> Iterator[str]:
    done = "; ".join(rung["done"])
    yield f"{done[:1].upper()}{done[1:]}."
    if rung["counted"]:
        yield f"Counted: {', '.join(rung['counted'])}."
    for refused in rung["refused"]:
        yield f"Refused, so it changes nothing: {refused}."
    if rung.get("scalar"):
        yield f"Loops that are no vectors: {'; '.join(rung['scalar'])}."
    if rung["reason"]:
        yield f"Not timed: {rung['reason']}."


def text(told: Mapping[str, Any], code: bool) -> Iterator[str]:
    """For the terminal: each step with its loops, then the hottest loop; all of the code with `code`."""
    for number, rung in enumerate(told["rungs"]):
        yield ""
        yield f"{number}. {rung['title']}"
        yield from (f"   {sentence}" for sentence in sentences(rung))
        yield from (f"     {line}" for line in rung["tree"].splitlines())
    listing = told["listing"]
    shown = listing["code"] if code else listing["hot"]
    if shown or listing["note"]:
        yield ""
        yield f"code ({listing['language'] or 'none'})" if code else f"the hottest loop ({listing['language']})"
        yield from (f"  {line}" for line in shown.splitlines())
    if listing["note"]:
        yield f"  {listing['note']}"
    yield ""
    yield from headline(told)
    yield from caveat_of(told).sentences
