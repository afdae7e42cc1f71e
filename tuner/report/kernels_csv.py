"""kernels.csv: the kernels as numbers for other programs. The only place that imports pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.report.tables import Kernel, baseline_names


def render(rows: Sequence[Kernel]) -> bytes:
    """The kernels as CSV in UTF-8: seconds, bytes, flops as plain numbers; text safe to open in a spreadsheet.

    The column `times` says what all seconds of its row are: measured, or what the device's caveat says. The columns
    `ratio_to_...` are speedups of the tuned kernel. A renamed column stands under its old name too.
    """
    import pandas

    frame = pandas.DataFrame([_csv_row(row, baseline_names(rows)) for row in rows], columns=_csv_columns(rows))
    return str(frame.to_csv(index=False, lineterminator="\n")).encode(errors="replace")


def render_several(rows: Mapping[str, Sequence[Kernel]]) -> bytes:
    """The kernels of several shapes in one table, whose first column has the names of the shapes."""
    import pandas

    baselines = list(dict.fromkeys(name for kernels in rows.values() for name in baseline_names(kernels)))
    cells = [
        {"model_shape": spreadsheet_safe(name), **_csv_row(kernel, baselines)}
        for name, kernels in rows.items()
        for kernel in kernels
    ]
    columns = list(cells[0]) if cells else ["model_shape", *_EMPTY_COLUMNS]
    frame = pandas.DataFrame(cells, columns=columns)
    return str(frame.to_csv(index=False, lineterminator="\n")).encode(errors="replace")


def _csv_columns(rows: Sequence[Kernel]) -> list[str]:
    return list(_csv_row(rows[0], baseline_names(rows))) if rows else list(_EMPTY_COLUMNS)


_EMPTY_COLUMNS = ("rank", "task", "name", "verdict")
"""Header of a table without kernels, so that the file can still be read as one."""


def _csv_row(row: Kernel, baselines: Sequence[str]) -> dict[str, Any]:
    data = row.data
    low, high = data["interval_s"] or (None, None)
    cells: dict[str, Any] = {
        "rank": row.rank,
        "task": data["task"],
        "name": data["name"],
        "shape": data.get("shape"),
        "weight": data["weight"],
        "share": row.share,
        "flops": data["flops"],
        "bytes": data["bytes"],
        "times": row.caveat.source,
        "tuned_s": data["tuned_s"],
        "tuned_low_s": low,
        "tuned_high_s": high,
        "searched_s": data.get("searched_s"),
        "remeasurement_shift": data.get("remeasurement_shift"),
        "shrank": data.get("remeasurement_shift"),  # the column's name in earlier versions
        "ties": None if data["tuned_s"] is None else len(data.get("ties", ())),
        "untuned_s": data["untuned_s"],
        **{f"{name}_s": data["baselines"].get(name) for name in baselines},
        "ratio_to_untuned": row.speedup,
        "best_baseline": row.best_baseline,
        "ratio_to_best_baseline": row.speedup_over_best,
        "flops_per_s": row.flops_per_s,
        "share_of_peak": row.share_of_peak,
        "verified": data["verified"],
        "verdict": data["verdict"],
        "candidate": data["candidate"],
    }
    return {spreadsheet_safe(key): spreadsheet_safe(value) for key, value in cells.items()}


_FORMULAS = frozenset("=+-@＝＋－＠")  # the wide forms begin a formula too where East Asian input is at home


def spreadsheet_safe(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front; all else is unchanged."""
    if isinstance(value, str) and (value.startswith(("\t", "\r")) or value.lstrip()[:1] in _FORMULAS):
        return f"'{value}"
    return value
