"""The report of a run: computed from summary.json and the records alone; it measures and compiles nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tuner.errors import UserError
from tuner.files import write_aside
from tuner.nights import Since
from tuner.records import Record
from tuner.report import summary as summary_file

FORMATS = ("html", "md", "csv")


def render(
    run_dir: Path, records: Sequence[Record], formats: tuple[str, ...] = FORMATS, since: Sequence[Since] = ()
) -> list[Path]:
    """Write the report of the run in `run_dir` and return the paths written, each replaced atomically.

    `formats` are among html (report.html), md (report.md with figures/*.png) and csv (kernels.csv).
    `records` are the trials the run made or reused, in the order they were made; `since` is how the
    model stands since last night. Works for a partial
    run and says what is missing. Raises UserError for a broken summary or an unknown format,
    OutputError when a file cannot be written.
    """
    from tuner.report import tables  # light, unlike what draws and formats

    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UserError(f"unknown report format {unknown[0]!r}", f"choose among {', '.join(FORMATS)}")
    summary = summary_file.load(run_dir)
    written: dict[Path, bytes] = {}
    if "html" in formats or "md" in formats:
        from tuner.report import document, html, ladder, markdown

        report = document.build(
            summary, records, _read_json(run_dir / "environment.json"), _read_text(run_dir / "config.yaml"), since,
            ladder.load_all(run_dir),
        )  # fmt: skip
        written |= {run_dir / "figures" / f"{picture.name}.png": picture.png for picture in report.pictures}
        if "md" in formats:
            written[run_dir / "report.md"] = markdown.render(report).encode(errors="replace")
        if "html" in formats:
            written[run_dir / "report.html"] = html.render(report).encode(errors="replace")
    if "csv" in formats:
        from tuner.report import kernels_csv

        written[run_dir / "kernels.csv"] = kernels_csv.render(tables.kernels(summary))
    for path, content in written.items():
        write_aside(path, content)
    return list(written)


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _read_json(path: Path) -> dict[str, Any] | None:
    text = _read_text(path)
    try:
        data = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def render_several(
    run_dir: Path,
    parts: Mapping[str, Path],
    records_of: Callable[[list[str]], Sequence[Record]],
    formats: tuple[str, ...] = FORMATS,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> list[Path]:
    """Write one report of a run of several shapes and return the paths written. `parts` are the runs of the shapes, by
    the shapes' names; `records_of` gives the records of tasks by their keys; `failed` says why a shape has no result.

    Raises as `render` does.
    """
    from tuner.report import tables

    summaries = {name: summary_file.load(part) for name, part in parts.items()}
    written: dict[Path, bytes] = {}
    if "html" in formats or "md" in formats:
        from tuner.report import document, html, markdown, several

        documents = {}
        for name, summary in summaries.items():
            keys = [kernel["task"] for kernel in summary["kernels"]]
            environment, config = _read_json(parts[name] / "environment.json"), _read_text(parts[name] / "config.yaml")
            documents[name] = document.build(summary, records_of(keys), environment, config)
        report = several.build(run_dir.name, summaries, documents, failed)
        written |= {run_dir / "figures" / f"{picture.name}.png": picture.png for picture in report.pictures}
        if "md" in formats:
            written[run_dir / "report.md"] = markdown.render(report).encode(errors="replace")
        if "html" in formats:
            written[run_dir / "report.html"] = html.render(report).encode(errors="replace")
    if "csv" in formats:
        from tuner.report import kernels_csv

        rows = {name: tables.kernels(summary) for name, summary in summaries.items()}
        written[run_dir / "kernels.csv"] = kernels_csv.render_several(rows)
    for path, content in written.items():
        write_aside(path, content)
    return list(written)
