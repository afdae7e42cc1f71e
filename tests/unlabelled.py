"""The rule of caveats: no time is shown without the words that say what it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_TIME = re.compile(r"(?<![\w.-])\d[\d,.]*(?:e-?\d+)? (?:s|ms|µs|us|ns)\b")
_TIMED_COLUMN = re.compile(r"GFLOP/s|^load$")
_OF_THE_RUN = re.compile(r"^(\*\*)?(Search \(|search: |search {2})|whole run: |\d trials in |expected to end|^\[")
"""Durations of the run itself: seconds of this machine, whatever the device's are."""

_WITHOUT_TIMES = ("Environment", "Reproduce", "Inputs", "Export")
"""Sections of a report that state what was configured, or what the machine is."""


def in_lines(lines: Sequence[str], words: Sequence[str]) -> list[str]:
    """The lines that have a time, and none of the words."""
    return [line for line in lines if _TIME.search(line) and not _OF_THE_RUN.search(line) and not _told(line, words)]


def in_table(rows: Sequence[Sequence[str]], words: Sequence[str]) -> list[str]:
    """The cells with a time that neither say what it is nor stand under a title that does."""
    titles = rows[0]
    return [
        f"{title}: {cell}"
        for row in rows[1:]
        for title, cell in zip(titles, row, strict=False)
        if (_TIME.search(cell) or (_TIMED_COLUMN.search(title) and cell != "–")) and not _told(title + cell, words)
    ]


def in_facts(rows: Sequence[Sequence[str]], words: Sequence[str]) -> list[str]:
    """As `in_lines`, of rows of a name and what it is."""
    return in_lines([f"{name}  {value}" for name, value, *_ in rows], words)


def in_markdown(report: str, words: Sequence[str], sentences: Sequence[str]) -> list[str]:
    """The times of a report without the words, and the sections with times that have none of the sentences."""
    found = []
    for title, lines in _sections(report):
        if title in _WITHOUT_TIMES:
            continue
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line[:1] == "|"]
        rows = [row for row in rows if not re.fullmatch(r":?-+:?", row[0])]
        prose = [line for line in lines if line[:1] != "|"]
        timed = any(_TIME.search(line) and not _OF_THE_RUN.search(line) for line in lines)
        found += [f"{title}: {line}" for line in in_lines(prose, words)]
        found += [f"{title}: {cell}" for cell in in_table(rows, words)] if rows else []
        plain = "\n".join(lines).replace("\\", "")
        if timed and not any(sentence in plain for sentence in sentences):
            found.append(f"{title}: no sentence says what its times are")
    return found


def _sections(report: str) -> Iterator[tuple[str, list[str]]]:
    title, lines = "", list[str]()
    for line in report.splitlines():
        if line.startswith("## "):
            yield title, lines
            title, lines = line[3:].replace("\\", ""), []
        else:
            lines.append(line)
    yield title, lines


def _told(text: str, words: Sequence[str]) -> bool:
    return any(one in text for one in words)
