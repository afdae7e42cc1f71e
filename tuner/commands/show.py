"""The folder where runs land: finding a run in it, and describing runs as rows of text.

Reads summary.json and the records; never writes.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import UserError
from tuner.progress import milliseconds
from tuner.schema import did_you_mean

Table = list[list[str]]
"""Rows of cells; what is printed decides on widths and on unprintable characters."""


def folders(out: str) -> list[Path]:
    """The folders of all runs under `out`, oldest first. Links are no runs: a run lies inside `out`."""
    if not os.path.isdir(out):
        return []
    found = [entry for entry in Path(out).iterdir() if entry.is_dir() and not entry.is_symlink()]
    return sorted((f for f in found if not f.name.startswith(".")), key=lambda f: (started(f), f.name))


def find(out: str, name: str) -> Path:
    """The folder of the run that `name` means: its id, the beginning of one id only, or `latest`.

    Never a folder outside `out`: `name` is compared with what is there, and never joined to a path.
    Raises UserError.
    """
    known = folders(out)
    found = known[-1:] if name == "latest" else [f for f in known if f.name == name]
    found = found or [f for f in known if name and f.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"run {name!r} may mean {', '.join(f.name for f in found[:5])}", "write more of its name")
    hint = did_you_mean(name, [f.name for f in known]) or f"see: python -m tuner list --out {shlex.quote(out)}"
    raise UserError(f"no run {name!r} under {out}", hint)


def overview(out: str) -> Table:
    """One row a run, oldest first, under a row of titles. A run without a readable summary says so in its row."""
    from tuner.report import summary as summaries

    rows = [["run", "model", "target", "tuned"]]
    for folder in folders(out):
        try:
            summary = summaries.load(folder)
        except UserError:
            damaged = (folder / summaries.FILE).exists()
            rows.append([folder.name, "(summary.json is damaged)" if damaged else "(no summary: it did not end)"])
            continue
        rows.append([folder.name, summary["model"]["name"], summary["target"]["kind"], _tuned(summary["end_to_end"])])
    return rows


def description(folder: Path, with_records: bool = False) -> list[Table]:
    """A run in tables: the facts, the kernels, and on request every trial.

    Raises UserError when the summary is missing or damaged, StoreError when the records cannot be read.
    """
    from tuner.report import summary as summaries

    summary = summaries.load(folder)
    tables = [_facts(summary), _kernels(summary), *_certificates(summary)]
    return [*tables, _trials(folder)] if with_records else tables


def _facts(summary: Mapping[str, Any]) -> Table:
    model, target, search = summary["model"], summary["target"], summary["search"]
    end, exported = summary["end_to_end"] or {}, summary["export"] or {}
    failed = [f"{count} {kind}" for kind, count in search["failed"].items() if count]
    return [
        ["run", summary["run_id"]],
        ["command", summary["command"]],
        ["model", f"{model['name']} ({model['source']}), batch {_cell(model['batch'])}"],
        ["target", f"{target['kind']}, {_cell(target['device'])}, {_cell(target['threads'])} thread(s)"],
        ["search", f"{search['strategy']}, {_cell(search['wall_s'])} s, stopped by {_cell(search['stopped_by'])}"],
        ["trials", f"{_cell(search['measured'])} measured, {_cell(search['reused'])} reused"],
        ["failed", ", ".join(failed) or "none"],
        ["tuned", _tuned(end)],
        ["verified", {True: "yes", False: "NO", None: "not checked"}[end.get("verified")]],
        *(["rival", f"{_time(rival['median_s'])} {name}"] for name, rival in end.get("baselines", {}).items() if rival),
        ["export", _cell(exported.get("path"))],
        *(["note", str(note)] for note in summary.get("notes") or ()),
    ]


def _kernels(summary: Mapping[str, Any]) -> Table:
    rows = [["kernel", "calls", "untuned", "tuned", "re-measured", "ties", "verdict"]]
    for kernel in summary["kernels"]:
        times = [_time(kernel["untuned_s"]), _time(kernel["tuned_s"])]
        remeasurement_shift = kernel.get("remeasurement_shift")
        certified = [
            "-" if remeasurement_shift is None else f"{remeasurement_shift:+.1%}",
            str(len(kernel.get("ties", ()))),
        ]
        rows.append([kernel["name"], _cell(kernel["weight"]), *times, *certified, _cell(kernel["verdict"])])
    return rows


def _certificates(summary: Mapping[str, Any]) -> list[Table]:
    """How each result was measured: a table of what differs among the kernels, and one of what is the same for all."""
    found = {k["name"]: k["certificate"] for k in summary["kernels"] if k.get("certificate")}
    if not found:
        return []
    names = list(dict.fromkeys(name for certificate in found.values() for name in certificate))
    common = [n for n in names if len(found) > 1 and len({certificate.get(n) for certificate in found.values()}) == 1]
    varied = [n for n in names if n not in common]
    rows = [[kernel, *(certificate.get(n, "-") for n in varied)] for kernel, certificate in found.items()]
    shared = next(iter(found.values()))
    return [[["certificate of", *varied], *rows], *([[[n, shared[n]] for n in common]] if common else [])]


def _trials(folder: Path) -> Table:
    from tuner import config
    from tuner.measure.metadata import metadata_sentence
    from tuner.store import SqlStore

    database = config.load(str(folder / "config.yaml")).measure.database
    rows = [["trial", "kernel", "status", "median", "proposer", "candidate", "reason", "certificate"]]
    for record in SqlStore(database).read(run_id=folder.name):
        found = record.measurement
        time = _time(found.median_s if found.ok else None)
        start = [str(record.trial), record.task_name, str(found.status), time]
        rows.append([*start, record.proposer, record.candidate, found.reason, metadata_sentence(found)])
    return rows


def started(folder: Path) -> float:
    """When a run began, for ordering: its config.yaml is written first, and once; reports may be rebuilt later."""
    file = folder / "config.yaml"
    return (file if file.exists() else folder).stat().st_mtime


def _tuned(end: Mapping[str, Any] | None) -> str:
    tuned, untuned = (end or {}).get("tuned_s"), (end or {}).get("untuned_s")
    return _time(tuned) + (f" (x{untuned / tuned:.3g} of untuned {milliseconds(untuned)})" if tuned and untuned else "")


def _time(value: float | None) -> str:
    return "-" if value is None else milliseconds(value)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
