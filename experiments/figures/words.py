"""How figures are written."""

from __future__ import annotations

from collections.abc import Sequence

Figures = dict[str, str]
"""Texts by name: numbers with their units, sentences, and tables, which begin and end with a newline."""

MISSING = "–"


def three(value: float) -> str:
    """Three significant digits: 0.497, 4.31, 46.6, 632."""
    return f"{value:#.3g}".removesuffix(".")


def percent(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"


def duration(seconds: float) -> str:
    return f"{three(seconds)} s" if seconds >= 1 else f"{three(1e3 * seconds)} ms"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
