"""The tables of the report: plain rows of text, computed from the summary and the records; and kernels.csv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.records import Fidelity, Record, Status
from tuner.report import units


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; the columns whose index is in `words` are text, the others numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Kernel:
    """One kernel of the summary with what follows from it. Ratios above 1: the tuned kernel is faster.

    `used_s` is the time of what the model runs: the default schedule where tuning did not win.
    `share` is the kernel's part of the model's kernel time, all calls together.
    """

    rank: int
    data: Mapping[str, Any]
    used_s: float | None
    share: float | None
    ratio_to_untuned: float | None
    best_baseline: str | None
    ratio_to_best: float | None
    flops_per_s: float | None
    share_of_peak: float | None

    @property
    def name(self) -> str:
        return str(self.data["name"])


def used_seconds(kernel: Mapping[str, Any]) -> float | None:
    """Seconds per call of what the model runs in the end."""
    if kernel["tuned_s"] is None or (kernel["verdict"] == "SLOWER" and kernel["untuned_s"] is not None):
        return float(kernel["untuned_s"]) if kernel["untuned_s"] is not None else None
    return float(kernel["tuned_s"])


def kernels(summary: Mapping[str, Any]) -> list[Kernel]:
    """The kernels in order of their share of the model's time, those without a time last."""
    peak = (summary.get("ceilings") or {}).get("peak_flops_per_s")
    spent = [(used_seconds(kernel) or 0.0) * _calls(kernel) for kernel in summary["kernels"]]
    total = sum(spent)
    order = sorted(range(len(spent)), key=lambda index: -spent[index])
    return [_kernel(rank, summary["kernels"][index], spent[index], total, peak) for rank, index in enumerate(order, 1)]


def _calls(kernel: Mapping[str, Any]) -> float:
    return 1.0 if kernel["weight"] is None else float(kernel["weight"])


def _kernel(rank: int, data: Mapping[str, Any], spent: float, total: float, peak: float | None) -> Kernel:
    used, tuned = used_seconds(data), data["tuned_s"]
    rivals = {name: value for name, value in data["baselines"].items() if value is not None and name != "untuned"}
    best = min(rivals, key=lambda name: float(rivals[name]), default=None)
    rate = data["flops"] / used if used and data["flops"] else None
    return Kernel(
        rank=rank,
        data=data,
        used_s=used,
        share=spent / total if used and total else None,
        ratio_to_untuned=data["untuned_s"] / tuned if tuned and data["untuned_s"] else None,
        best_baseline=best,
        ratio_to_best=rivals[best] / tuned if tuned and best is not None else None,
        flops_per_s=rate,
        share_of_peak=rate / peak if rate and peak else None,
    )


def baseline_names(rows: Sequence[Kernel]) -> list[str]:
    """Every baseline that some kernel has, in order of appearance; the untuned schedule has its own column."""
    return list(dict.fromkeys(name for row in rows for name in row.data["baselines"] if name != "untuned"))


def kernel_table(rows: Sequence[Kernel]) -> Table:
    rivals = baseline_names(rows)
    headers = ("kernel", "calls", "share of time", "tuned [95 %]", "untuned", *map(units.rival_name, rivals),
               "vs untuned", "vs best baseline", "GFLOP/s", "of peak", "re-measured", "ties", "verdict")  # fmt: skip
    return Table(headers, tuple(_kernel_cells(row, rivals) for row in rows), frozenset({0, len(headers) - 1}))


def _kernel_cells(row: Kernel, rivals: Sequence[str]) -> tuple[str, ...]:
    data = row.data
    shape = data.get("shape")
    verdict = data["verdict"] or "NOT TUNED"
    if data["tuned_s"] is not None and data["verified"] is not True:
        verdict += ", WRONG RESULT" if data["verified"] is False else ", not verified"
    return (
        f"#{row.rank} {data['name']}{' ' + shape if shape else ''}",
        units.count(data["weight"]),
        units.percent(row.share),
        units.seconds(data["tuned_s"], data["interval_s"]),
        units.seconds(data["untuned_s"]),
        *(units.seconds(data["baselines"].get(name)) for name in rivals),
        units.ratio(row.ratio_to_untuned),
        _ratio_and_verdict(row.ratio_to_best, data.get("baseline_verdicts", {}).get(row.best_baseline)),
        units.digits(row.flops_per_s / 1e9 if row.flops_per_s else None),
        units.percent(row.share_of_peak),
        units.change(data.get("remeasurement_shift")),
        units.MISSING if data["tuned_s"] is None or "ties" not in data else units.count(len(data["ties"])),
        verdict,
    )


def _ratio_and_verdict(ratio: float | None, verdict: str | None) -> str:
    return units.ratio(ratio) + (f" {verdict}" if ratio is not None and verdict else "")


def end_to_end_table(
    bars: Sequence[tuple[str, float | None, Sequence[float] | None]], tuned_s: float | None, verdicts: Sequence[str]
) -> Table:
    """One row per way to run the model: its time, how many times as fast the tuned model is, and what of it holds."""
    rows = tuple(
        (name, units.seconds(value, interval) if value is not None else "not measured",
         units.ratio(value / tuned_s if value is not None and tuned_s else None), verdict)
        for (name, value, interval), verdict in zip(bars, verdicts, strict=True)
    )  # fmt: skip
    return Table(("run by", "median [95 % interval]", "tuned is faster by", "verdict"), rows, frozenset({0, 3}))


def failure_table(summary: Mapping[str, Any], records: Sequence[Record]) -> Table:
    """Failures by kind, with the reason seen most often among the run's own records.

    Censored trials are listed last: they were given up because they were slow, which is no failure.
    """
    failed = {kind: number for kind, number in summary["search"]["failed"].items() if number}
    own = [record.measurement for record in records if record.run_id == summary["run_id"]]
    rows = []
    for kind, number in sorted(failed.items(), key=lambda item: (item[0] == Status.CENSORED, -item[1])):
        reasons = Counter(m.reason for m in own if m.status.value == kind and m.reason)
        common = " ".join(reasons.most_common(1)[0][0].split()) if reasons else ""
        kind = "censored (given up as slow; no failure)" if kind == Status.CENSORED else kind
        rows.append((kind, units.count(number), common if len(common) <= 200 else f"{common[:199]}…"))
    return Table(("kind", "trials", "most frequent reason"), tuple(rows), frozenset({0, 2}))


def proposer_table(rows: Sequence[Kernel], records: Sequence[Record]) -> Table:
    """What each proposer tried, how much of it could be timed, and which kernels it won."""
    records = [record for record in records if record.measurement.fidelity is Fidelity.SCREEN]  # no second measurements
    tried = Counter(record.proposer for record in records)
    timed = Counter(record.proposer for record in records if record.measurement.ok)
    proposer_of = {(r.task_key, r.candidate): r.proposer for r in reversed(records) if r.measurement.ok}
    won: Counter[str] = Counter()
    share: dict[str, float] = {}
    for row in rows:
        winner = proposer_of.get((row.data["task"], row.data["candidate"]))
        if winner is not None and row.data["tuned_s"] is not None:
            won[winner] += 1
            share[winner] = share.get(winner, 0.0) + (row.share or 0.0)
    order = sorted(tried, key=lambda name: (-won[name], -tried[name]))
    cells = tuple(
        (name, units.count(tried[name]), units.percent(timed[name] / tried[name]), units.count(won[name]),
         units.percent(share.get(name, 0.0)))
        for name in order
    )  # fmt: skip
    return Table(("proposer", "trials", "timed", "kernels won", "share of time won"), cells)


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Nested data as rows of dotted key and value."""
    return Table(("key", "value"), tuple(_flatten("", environment)), frozenset({0, 1}))


def _flatten(prefix: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [row for key in value for row in _flatten(f"{prefix}.{key}" if prefix else str(key), value[key])]
    if isinstance(value, (list, tuple)):
        return [(prefix, " ".join(str(item) for item in value) or "none")]
    return [(prefix, units.MISSING if value is None or value == {} else str(value))]


def kernels_csv(rows: Sequence[Kernel]) -> bytes:
    """The kernels as CSV in UTF-8: seconds, bytes, flops as plain numbers; text safe to open in a spreadsheet."""
    import pandas

    frame = pandas.DataFrame([_csv_row(row, baseline_names(rows)) for row in rows], columns=_csv_columns(rows))
    return str(frame.to_csv(index=False, lineterminator="\n")).encode(errors="replace")


def _csv_columns(rows: Sequence[Kernel]) -> list[str]:
    return list(_csv_row(rows[0], baseline_names(rows))) if rows else list(_EMPTY_COLUMNS)


_EMPTY_COLUMNS = ("rank", "task", "name", "verdict")
"""Header of a table without kernels, so that the file can still be read as one."""


def _csv_row(row: Kernel, rivals: Sequence[str]) -> dict[str, Any]:
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
        "tuned_s": data["tuned_s"],
        "tuned_low_s": low,
        "tuned_high_s": high,
        "searched_s": data.get("searched_s"),
        "remeasurement_shift": data.get("remeasurement_shift"),
        "ties": None if data["tuned_s"] is None else len(data.get("ties", ())),
        "untuned_s": data["untuned_s"],
        **{f"{name}_s": data["baselines"].get(name) for name in rivals},
        "ratio_to_untuned": row.ratio_to_untuned,
        "best_baseline": row.best_baseline,
        "ratio_to_best_baseline": row.ratio_to_best,
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
