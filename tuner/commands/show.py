"""`list` and `show`: find a run in the folder of runs, and describe runs as rows of text.

Reads summary.json and the records; never writes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.caveats import Caveat, Caveats
from tuner.errors import UserError
from tuner.progress import milliseconds
from tuner.report import end_to_end
from tuner.schema import did_you_mean

SHAPES_FILE = "shapes.json"
"""In the folder of a run that tuned several shapes: their names, and what became of each."""

PARTS = "shapes"
"""The folder in it that has one run a shape."""

Rows = list[list[str]]
"""Rows of cells. The command line sets the widths, and replaces unprintable characters, when it prints them."""


def folders(out: str) -> list[Path]:
    """The folders of all runs under `out`, oldest first. Links do not count: a run lies inside `out`.

    Raises UserError where `out` is a file.
    """
    if os.path.isfile(out):
        raise UserError(f"{out} is a file, not a folder of runs", "name a folder with --out")
    if not os.path.isdir(out):
        return []
    entries = [entry for entry in Path(out).iterdir() if entry.is_dir() and not entry.is_symlink()]
    return sorted((f for f in entries if not f.name.startswith(".")), key=lambda f: (started(f), f.name))


def find(out: str, name: str) -> Path:
    """The folder of a run: `name` is its id, the beginning of one id only, or `latest`.

    Never a folder outside `out`: `name` is compared with what is there, and never joined to a path.
    Raises UserError.
    """
    runs = folders(out)
    matches = runs[-1:] if name == "latest" else [folder for folder in runs if folder.name == name]
    matches = matches or [folder for folder in runs if name and folder.name.startswith(name)]
    matches = matches or [part for folder in runs for part in shapes(folder).values() if part.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f"run {name!r} may mean {', '.join(f.name for f in matches[:5])}", "write more of its name")
    hint = did_you_mean(name, [f.name for f in runs]) or f"see: python -m tuner list --out {shlex.quote(out)}"
    raise UserError(f"no run {name!r} under {out}", hint)


def shapes(folder: Path) -> dict[str, Path]:
    """The folders of the parts of a run that tuned several shapes, by the names of these; none for any other run."""
    try:
        stated = json.loads((folder / SHAPES_FILE).read_bytes())
        names = [str(shape["name"]) for shape in stated["shapes"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    safe = [name for name in names if re.fullmatch(r"[\w.-]+", name) and name.strip(".")]
    return {name: folder / PARTS / f"{folder.name}.{name}" for name in safe}


def overview(out: str) -> Rows:
    """One row a run, oldest first, under a row of titles. The row of a run without a readable summary says so."""
    from tuner.report import summary as summaries

    rows = [["run", "model", "target", "tuned"]]
    for folder in folders(out):
        if parts := shapes(folder):
            rows.append(_several_row(folder.name, parts))
            continue
        try:
            summary = summaries.load(folder)
        except UserError:
            damaged = (folder / summaries.FILE).exists()
            rows.append([folder.name, "(summary.json is damaged)" if damaged else "(no summary: it did not end)"])
            continue
        tuned = _tuned(summary["end_to_end"], Caveats.of_summary(summary).model)
        rows.append([folder.name, summary["model"]["name"], summary["target"]["kind"], tuned])
    return rows


def description(folder: Path, with_records: bool = False) -> list[Rows]:
    """A run as tables: the facts, the kernels, how they were measured, and on request every trial.

    Raises UserError when the summary is missing (it says when the run is to end) or damaged, StoreError when the
    records cannot be read.
    """
    from tuner.commands import within
    from tuner.report import summary as summaries

    if parts := shapes(folder):
        missing = [
            [["shape", name], ["(not tuned)"]] for name, part in parts.items() if not (part / summaries.FILE).exists()
        ]
        there = [part for part in parts.values() if (part / summaries.FILE).exists()]
        return [*(table for part in there for table in description(part, with_records)), *missing]
    try:
        summary = summaries.load(folder)
    except UserError as error:
        if (folder / summaries.FILE).exists() or not (ending := within.ending(folder)):
            raise
        raise UserError(f"{error.message}; {ending}", error.hint) from error
    tables = [_facts(summary), _kernels(summary), *_metadata(summary)]
    return [*tables, _trials(folder, Caveats.of_summary(summary).kernel)] if with_records else tables


def _several_row(run: str, parts: Mapping[str, Path]) -> list[str]:
    """The row of a run that tuned several shapes."""
    from tuner.report import summary as summaries

    found = {}
    for name, part in parts.items():
        try:
            found[name] = summaries.load(part)
        except UserError:
            continue
    times = ", ".join(
        f"{name}: {Caveats.of_summary(s).model.beside(_time((s['end_to_end'] or {}).get('tuned_s')))}"
        for name, s in found.items()
    )
    if not found:
        return [run, "(no summary: none of its shapes ended)"]
    first = next(iter(found.values()))
    return [run, first["model"]["name"], first["target"]["kind"], f"{len(found)} of {len(parts)} shapes: {times}"]


def _facts(summary: Mapping[str, Any]) -> Rows:
    model, target, search = summary["model"], summary["target"], summary["search"]
    end, exported = summary["end_to_end"] or {}, summary["export"] or {}
    failed = [f"{count} {kind}" for kind, count in search["failed"].items() if count]
    baselines = {name: value for name, value in end.get("baselines", {}).items() if value}
    caveats = Caveats.of_summary(summary)
    beside = caveats.model.beside
    return [
        ["run", summary["run_id"]],
        ["command", summary["command"]],
        ["model", f"{model['name']} ({model['source']}), batch {_cell(model['batch'])}"],
        ["inputs", _inputs(summary)],
        ["target", f"{target['kind']}, {_cell(target['device'])}, {_cell(target['threads'])} thread(s)"],
        ["search", f"{search['strategy']}, {_cell(search['wall_s'])} s, stopped by {_cell(search['stopped_by'])}"],
        ["trials", f"{end_to_end.measurements(search)}, {_cell(search['reused'])} reused"],
        ["failed", ", ".join(failed) or "none"],
        ["tuned", _tuned(end, caveats.model)],
        *(["times", sentence] for sentence in caveats.sentences),
        *([["CPUs", str(end["state"])]] if end.get("state") else []),
        ["verified", {True: "yes", False: "NO", None: "not checked"}[end.get("verified")]],
        *(["baseline", f"{beside(_time(value['median_s']))} {name}"] for name, value in baselines.items()),
        ["export", _cell(exported.get("path"))],
        *(["note", str(note)] for note in summary.get("notes") or ()),
    ]


def _inputs(summary: Mapping[str, Any]) -> str:
    """Their shapes, and where they are from."""
    shown = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in summary["model"]["inputs"].items())
    data = (summary.get("inputs") or {}).get("data")
    return shown if data is None else f"{shown}; from {data['path']} (SHA-256 {data['sha256'][:12]}...)"


def _kernels(summary: Mapping[str, Any]) -> Rows:
    beside = Caveats.of_summary(summary).kernel.beside
    rows = [["kernel", "calls", beside("untuned"), beside("tuned"), "re-measured", "ties", "verdict"]]
    for kernel in summary["kernels"]:
        shift = kernel.get("remeasurement_shift")
        rows.append(
            [
                kernel["name"],
                _cell(kernel["weight"]),
                _time(kernel["untuned_s"]),
                _time(kernel["tuned_s"]),
                "-" if shift is None else f"{shift:+.1%}",
                str(len(kernel.get("ties", ()))),
                _cell(kernel["verdict"]),
            ]
        )
    return rows


def _metadata(summary: Mapping[str, Any]) -> list[Rows]:
    """How each result was measured: a table of what differs among the kernels, and one of what they share."""
    by_kernel = {k["name"]: k["metadata"] for k in summary["kernels"] if k.get("metadata")}
    if not by_kernel:
        return []
    all_metadata = list(by_kernel.values())
    names = list(dict.fromkeys(name for metadata in all_metadata for name in metadata))
    common = [n for n in names if len(all_metadata) > 1 and len({metadata.get(n) for metadata in all_metadata}) == 1]
    varied = [n for n in names if n not in common]
    rows = [[kernel, *(metadata.get(n, "-") for n in varied)] for kernel, metadata in by_kernel.items()]
    shared = [[n, all_metadata[0][n]] for n in common]
    return [[["measurement of", *varied], *rows], *([shared] if shared else [])]


def _trials(folder: Path, caveat: Caveat) -> Rows:
    from tuner import config
    from tuner.measure.metadata import metadata_sentence
    from tuner.store import SqlStore

    database = config.load(str(folder / "config.yaml")).measure.database
    rows = [["trial", "kernel", "status", caveat.beside("median"), "proposer", "candidate", "reason", "metadata"]]
    for record in SqlStore(database).read(run_id=folder.name):
        measured = record.measurement
        time = _time(measured.median_s if measured.ok else None)
        start = [str(record.trial), record.task_name, str(measured.status), time]
        rows.append([*start, record.proposer, record.candidate, measured.reason, metadata_sentence(measured)])
    return rows


def started(folder: Path) -> float:
    """When a run began, for ordering: config.yaml is written first and once, while reports may be rebuilt later."""
    file = folder / "config.yaml"
    return (file if file.exists() else folder).stat().st_mtime


def _tuned(end: Mapping[str, Any] | None, caveat: Caveat) -> str:
    """`50.0 ms (10x as fast as untuned, 500 ms)`; without the speedup where no paired comparison gave one."""
    tuned, untuned = (end or {}).get("tuned_s"), (end or {}).get("untuned_s")
    if not (end and tuned and untuned):
        return _time(tuned) if tuned is None else caveat.beside(_time(tuned))
    ratio = end.get("ratios", {}).get("untuned")
    than = f"{1.0 / ratio:.3g}x as fast as untuned, " if ratio else "untuned: "
    return caveat.beside(f"{_time(tuned)} ({than}{milliseconds(untuned)})")


def _time(value: float | None) -> str:
    return "-" if value is None else milliseconds(value)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
