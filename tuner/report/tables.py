"""The tables of the report: plain rows of text, computed from the summary and the records."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.caveats import NONE, Caveat, Caveats
from tuner.records import Fidelity, Label, Record, Status
from tuner.report import units
from tuner.report.end_to_end import TUNED, UNTUNED, Entry
from tuner.report.summary import NOT_TUNED


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; the columns whose index is in `words` are text, the others numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Peak:
    """A peak of a device: of what it is, and its flop/s."""

    name: str
    flops_per_s: float


@dataclass(frozen=True)
class Kernel:
    """One kernel of the summary with what follows from it. Speedups above 1: the tuned kernel is faster.

    `used_s` is the time of what the model runs: the default schedule where tuning did not win.
    `share` is the kernel's part of the model's kernel time, all calls together. `speedup` is over the untuned kernel,
    from the comparison that gave the verdict. `peak` is that of what it computes in; `caveat` says what its times
    are.
    """

    rank: int
    data: Mapping[str, Any]
    used_s: float | None
    share: float | None
    speedup: float | None
    best_baseline: str | None
    speedup_over_best: float | None
    flops_per_s: float | None
    share_of_peak: float | None
    peak: Peak | None = None
    caveat: Caveat = NONE

    @property
    def name(self) -> str:
        return str(self.data["name"])


def used_seconds(kernel: Mapping[str, Any]) -> float | None:
    """Seconds per call of what the model runs in the end."""
    if kernel["tuned_s"] is None or (kernel["verdict"] == Label.SLOWER and kernel["untuned_s"] is not None):
        return float(kernel["untuned_s"]) if kernel["untuned_s"] is not None else None
    return float(kernel["tuned_s"])


def kernels(summary: Mapping[str, Any]) -> list[Kernel]:
    """The kernels in order of their share of the model's time, those without a time last."""
    ceilings, caveat = summary.get("ceilings") or {}, Caveats.of_summary(summary).kernel
    spent = [(used_seconds(kernel) or 0.0) * _calls(kernel) for kernel in summary["kernels"]]
    total = sum(spent)
    order = sorted(range(len(spent)), key=lambda index: -spent[index])
    return [
        dataclasses.replace(_kernel(rank, kernel, spent[index], total, peak_of(kernel, ceilings)), caveat=caveat)
        for rank, index in enumerate(order, 1)
        for kernel in (summary["kernels"][index],)
    ]


def peak_of(kernel: Mapping[str, Any], ceilings: Mapping[str, Any]) -> Peak | None:
    """What a kernel is held against: the peak of what it computes in; where that is not known, that of its dtype, else
    that of float32."""
    peaks = {"float32": ceilings.get("peak_flops_per_s"), **(ceilings.get("peaks") or {})}
    arithmetic = kernel.get("arithmetic") or ""
    names = (arithmetic, arithmetic.partition(" ")[0], "float32")
    return next((Peak(name, float(peaks[name])) for name in names if peaks.get(name)), None)


def _calls(kernel: Mapping[str, Any]) -> float:
    return 1.0 if kernel["weight"] is None else float(kernel["weight"])


def _kernel(rank: int, data: Mapping[str, Any], spent: float, total: float, peak: Peak | None) -> Kernel:
    used, tuned = used_seconds(data), data["tuned_s"]
    baselines = {name: value for name, value in data["baselines"].items() if value is not None and name != UNTUNED}
    best = min(baselines, key=lambda name: float(baselines[name]), default=None)
    rate = data["flops"] / used if used and data["flops"] else None
    return Kernel(
        rank=rank,
        data=data,
        used_s=used,
        share=spent / total if used and total else None,
        speedup=_speedup(data),
        best_baseline=best,
        speedup_over_best=baselines[best] / tuned if tuned and best is not None else None,
        flops_per_s=rate,
        share_of_peak=rate / peak.flops_per_s if rate and peak else None,
        peak=peak,
    )


def _speedup(data: Mapping[str, Any]) -> float | None:
    """Of the best candidate over the untuned kernel, also where the untuned one stays in use; None where the summary,
    which an earlier version wrote, does not have the ratio that belongs to the verdict."""
    return None if data.get("ratio") is None else 1.0 / float(data["ratio"])


def baseline_names(rows: Sequence[Kernel]) -> list[str]:
    """Every baseline that some kernel has, in order of appearance; the untuned schedule has its own column."""
    return list(dict.fromkeys(name for row in rows for name in row.data["baselines"] if name != UNTUNED))


def kernel_table(rows: Sequence[Kernel]) -> Table:
    """One row a kernel. A verdict stands in the cell of the speedup that it is about."""
    baselines = baseline_names(rows)
    beside = (rows[0].caveat if rows else NONE).beside
    headers = ("kernel", "calls", "share of time", beside("tuned [95 %]"), beside("untuned"), "speedup over untuned",
               *(beside(units.baseline_name(name)) for name in baselines), "speedup over best baseline",
               beside("GFLOP/s"), "of peak", "re-measured", "ties")  # fmt: skip
    return Table(headers, tuple(_kernel_cells(row, baselines) for row in rows))


def _kernel_cells(row: Kernel, baselines: Sequence[str]) -> tuple[str, ...]:
    data = row.data
    shape = data.get("shape")
    untied = data["tuned_s"] is None or "ties" not in data
    return (
        f"#{row.rank} {data['name']}{' ' + shape if shape else ''}",
        units.count(data["weight"]),
        units.percent(row.share),
        units.seconds(data["tuned_s"], data["interval_s"]),
        units.seconds(data["untuned_s"]),
        _with_verdict(row.speedup, _kernel_verdict(data)),
        *(units.seconds(data["baselines"].get(name)) for name in baselines),
        _with_verdict(row.speedup_over_best, _baseline_verdict(row)),
        units.digits(row.flops_per_s / 1e9 if row.flops_per_s else None),
        units.percent(row.share_of_peak),
        units.change(data.get("remeasurement_shift")),
        units.MISSING if untied else units.count(len(data["ties"])),
    )


def _kernel_verdict(data: Mapping[str, Any]) -> str:
    """The verdict on the tuned kernel against the untuned one, and whether its outputs are right."""
    verdict = str(data["verdict"] or NOT_TUNED)
    if data["tuned_s"] is None or data["verified"] is True:
        return verdict
    return f"{verdict}, {'WRONG RESULT' if data['verified'] is False else 'not verified'}"


def _baseline_verdict(row: Kernel) -> str:
    if row.speedup_over_best is None:
        return ""
    return str(row.data.get("baseline_verdicts", {}).get(row.best_baseline, ""))


def _with_verdict(speedup: float | None, verdict: str) -> str:
    """`×1.05 FASTER`; a part that is not known is left out."""
    known = [units.speedup(speedup)] if speedup is not None else []
    return " ".join([*known, *([verdict] if verdict else [])]) or units.MISSING


def end_to_end_table(entries: Sequence[Entry], caveat: Caveat) -> Table:
    """One row per way to run the model: its time, the tuned model's speedup over it, and the verdict; then the same for
    the first call after a rest, the seconds of loading, and the peak of memory, where they were measured."""
    heads = ["run by", caveat.beside("median [95 % interval]"), "speedup of tuned", "verdict"]
    rows = [[entry.name, _model_time(entry), *_speedup_and_verdict(entry)] for entry in entries]
    words = {0, 3}
    if any(entry.first_call for entry in entries):
        heads += [caveat.beside("first call [95 % interval]"), "its speedup", "its verdict"]
        words.add(6)
        firsts = [entry.first_call for entry in entries]
        rows = [[*row, *_first_call(first)] for row, first in zip(rows, firsts, strict=True)]
    if any(entry.load_s is not None for entry in entries):
        heads.append(caveat.beside("load"))
        rows = [[*row, units.seconds(entry.load_s)] for row, entry in zip(rows, entries, strict=True)]
    if any(entry.peak_bytes is not None for entry in entries):
        heads.append("peak memory")
        rows = [[*row, units.mebibytes(entry.peak_bytes)] for row, entry in zip(rows, entries, strict=True)]
    return Table(tuple(heads), tuple(map(tuple, rows)), frozenset(words))


def _model_time(entry: Entry) -> str:
    if entry.median_s is None:
        return "not measured"
    return units.milliseconds(entry.median_s, entry.interval_s) + (", all states" if entry.mixed else "")


def _first_call(first: Entry | None) -> tuple[str, str, str]:
    if first is None:
        return units.MISSING, units.MISSING, ""
    return units.milliseconds(first.median_s, first.interval_s), *_speedup_and_verdict(first)


def _speedup_and_verdict(entry: Entry) -> tuple[str, str]:
    own = entry.key == TUNED and entry.median_s is not None
    return units.speedup(1.0 if own else entry.speedup), "" if entry.label is None else entry.label.value


def failure_table(summary: Mapping[str, Any], records: Sequence[Record]) -> Table:
    """Failed trials by kind, with the reason seen most often among the run's own records.

    Censored trials are listed last: they were stopped because they were slow, which is not a failure.
    """
    failed = {kind: number for kind, number in summary["search"]["failed"].items() if number}
    own = [record.measurement for record in records if record.run_id == summary["run_id"]]
    rows = []
    for kind, number in sorted(failed.items(), key=lambda item: (item[0] == Status.CENSORED, -item[1])):
        reasons = Counter(m.reason for m in own if m.status.value == kind and m.reason)
        common = " ".join(reasons.most_common(1)[0][0].split()) if reasons else ""
        kind = "censored (stopped as slow; not a failure)" if kind == Status.CENSORED else kind
        rows.append((kind, units.count(number), common if len(common) <= 200 else f"{common[:199]}…"))
    return Table(("kind", "trials", "most frequent reason"), tuple(rows), frozenset({0, 2}))


def proposer_table(rows: Sequence[Kernel], records: Sequence[Record]) -> Table:
    """What each proposer tried, how much of it could be timed, and which kernels it won."""
    screened = [record for record in records if record.measurement.fidelity is Fidelity.SCREEN]  # a trial once only
    tried = Counter(record.proposer for record in screened)
    timed = Counter(record.proposer for record in screened if record.measurement.ok)
    won, share = _wins(rows, screened)
    order = sorted(tried, key=lambda name: (-won[name], -tried[name]))
    cells = tuple(
        (name, units.count(tried[name]), units.percent(timed[name] / tried[name]), units.count(won[name]),
         units.percent(share.get(name, 0.0)))
        for name in order
    )  # fmt: skip
    return Table(("proposer", "trials", "timed", "kernels won", "share of time won"), cells)


def _wins(rows: Sequence[Kernel], screened: Sequence[Record]) -> tuple[Counter[str], dict[str, float]]:
    """By proposer: how many kernels its candidates won, and the share of the model's time that these take."""
    proposer_of = {(r.task_key, r.candidate): r.proposer for r in reversed(screened) if r.measurement.ok}
    won: Counter[str] = Counter()
    share: dict[str, float] = {}
    for row in rows:
        winner = proposer_of.get((row.data["task"], row.data["candidate"]))
        if winner is not None and row.data["tuned_s"] is not None:
            won[winner] += 1
            share[winner] = share.get(winner, 0.0) + (row.share or 0.0)
    return won, share


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Nested data as rows of dotted key and value."""
    return Table(("key", "value"), tuple(_flatten("", environment)), frozenset({0, 1}))


def _flatten(prefix: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [row for key in value for row in _flatten(f"{prefix}.{key}" if prefix else str(key), value[key])]
    if isinstance(value, (list, tuple)):
        return [(prefix, " ".join(str(item) for item in value) or "none")]
    return [(prefix, units.MISSING if value is None or value == {} else str(value))]
