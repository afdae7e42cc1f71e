"""The ladder of a kernel (`tuner explain`): a file beside the run's summary, and what is shown of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.files import write_aside
from tuner.report import units
from tuner.report.tables import Table

if TYPE_CHECKING:
    from tuner.report.document import Document, Section

FOLDER = "explain"
"""In the folder of a run: `<task>.json`, and `<task>.html` to be read."""

_SHOWN_LINES = 400
"""Of a kernel's code in the page of a kernel."""

_MOST = 4
"""Ladders that a report shows: those of the kernels explained that take most of the model's time."""


def write(run: Path, told: Mapping[str, Any]) -> None:
    """Store a ladder in the folder of its run, and its page. Raises OutputError."""
    from tuner.report import html

    folder = run / FOLDER
    write_aside(folder / f"{told['task']}.json", json.dumps(told, indent=1).encode() + b"\n")
    write_aside(folder / f"{told['task']}.html", html.render(page(told)).encode(errors="replace"))


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


def sections(ladders: Sequence[Mapping[str, Any]], kernels: Sequence[Any]) -> Iterator[Section]:
    """For the report: one section with the pictures of the kernels that take most of the model's time."""
    from tuner.report.document import Section
    from tuner.report.figures import ladder as picture

    shares = {kernel.data["task"]: kernel.share or 0.0 for kernel in kernels}
    shown = sorted((t for t in ladders if t["task"] in shares), key=lambda t: -shares[t["task"]])[:_MOST]
    if shown:
        text = (
            "How the schedules of some kernels came about: each step was built, checked and timed again, interleaved"
            f" with the others. The programs themselves are in {FOLDER}/, one page a kernel.",
        )
        drawn = [picture(told) for told in shown]
        yield Section("Ladders of kernels", text, tuple(one for one in drawn if one is not None))


def page(told: Mapping[str, Any]) -> Document:
    """The page of one kernel."""
    from tuner.report.document import Document, Section
    from tuner.report.end_to_end import Headline
    from tuner.report.figures import ladder as picture

    drawn = picture(told)
    made = [
        Section("Steps", tuple(_notes(told)), () if drawn is None else (drawn,), table(told)),
        *(
            Section(f"{number}. {rung['title']}", tuple(_sentences(rung)), code=rung["tree"])
            for number, rung in enumerate(told["rungs"])
        ),
    ]
    listing = told["listing"]
    note = (f"{listing['note'].capitalize()}.",) if listing["note"] else ()
    if listing["hot"]:
        made.append(Section(f"The hottest loop ({listing['language']})", code=listing["hot"]))
    made.append(Section(f"Code ({listing['language'] or 'none'})", note, code=_cut(listing["code"]) or None))
    facts = [str(told["device"] or ""), f"{told['threads']} threads", f"task {told['task']}", f"run {told['run']}"]
    subtitle = " · ".join(fact for fact in facts if fact)
    return Document(f"Kernel {told['name']}", subtitle, Headline("open", tuple(headline(told))), tuple(made))


def headline(told: Mapping[str, Any]) -> Iterator[str]:
    """What came out, in one or two sentences."""
    first, last = told["rungs"][0]["seconds"], told["rungs"][-1]["seconds"]
    if first and last:
        yield f"From {units.duration(first)} to {units.duration(last)}: {units.speedup(first / last)} the speed."
        gains = [(a["seconds"] / b["seconds"], b["title"]) for a, b in _timed_pairs(told["rungs"])]
        if gains:
            gain, title = max(gains)
            yield f"The largest step is “{title}”: {units.speedup(gain)}."
    else:
        yield "Not all of its steps could be timed."


def _timed_pairs(rungs: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    timed = [rung for rung in rungs if rung["seconds"]]
    return list(itertools.pairwise(timed))


def _notes(told: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "Each step is a program of its own: built, checked, and timed interleaved with the others. “Speedup”"
        " is against the timed step before."
    )
    if any(rung["predicted_s"] is not None for rung in told["rungs"]):
        yield (
            "“Predicted” is what a cost model expects that was trained on this run's trials of the kernel. It has seen"
            " whole schedules only."
        )
    if told["lower_bound_s"]:
        yield f"This machine cannot do it in less than {units.duration(told['lower_bound_s'])} (roofline)."


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
    return Table(("step", "predicted", "measured", "95 % interval", "speedup"), tuple(rows))


def _reason(rung: Mapping[str, Any]) -> str:
    return f"not timed ({rung['reason'].partition(':')[0]})"


def _range(rung: Mapping[str, Any]) -> str:
    ends = rung["interval_s"]
    return "–" if not ends else f"{units.duration(ends[0])} to {units.duration(ends[1])}"


def _sentences(rung: Mapping[str, Any]) -> Iterator[str]:
    done = "; ".join(rung["done"])
    yield f"{done[:1].upper()}{done[1:]}."
    if rung["counted"]:
        yield f"Counted: {', '.join(rung['counted'])}."
    for refused in rung["refused"]:
        yield f"Refused, so it changes nothing: {refused}."
    if rung["reason"]:
        yield f"Not timed: {rung['reason']}."


def text(told: Mapping[str, Any], code: bool) -> Iterator[str]:
    """For the terminal: each step with its loops, then the hottest loop; all of the code with `code`."""
    for number, rung in enumerate(told["rungs"]):
        yield ""
        yield f"{number}. {rung['title']}"
        yield from (f"   {sentence}" for sentence in _sentences(rung))
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


def _cut(code: str) -> str:
    lines = code.splitlines()
    rest = len(lines) - _SHOWN_LINES
    return "\n".join([*lines[:_SHOWN_LINES], *([f"... and {rest} more lines"] if rest > 0 else [])])
