"""What the report says, in order, before it is HTML or Markdown: sections of plain text, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.records import Record, Status
from tuner.report import curves, figures, tables, units

_SAME_WITHIN = 0.005  # measurement.md: differences under half a percent are not called differences
_UNREPEATED = 0.10  # a time that comes without an interval is trusted to this much only
OUR_NAME = "tuned (this run)"


@dataclass(frozen=True)
class Section:
    """One heading with what stands under it, in this order: text, pictures, table, code."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[figures.Picture, ...] = ()
    table: tables.Table | None = None
    code: str | None = None


@dataclass(frozen=True)
class Document:
    """`mood` is `good`, `bad` or `open`: whether the verdict is a gain, a loss, or not decided."""

    title: str
    subtitle: str
    mood: str
    verdict: tuple[str, ...]
    sections: tuple[Section, ...] = field(default=())

    @property
    def pictures(self) -> list[figures.Picture]:
        return [picture for section in self.sections for picture in section.pictures]


def build(
    summary: Mapping[str, Any], records: Sequence[Record], environment: Mapping[str, Any] | None, config: str | None
) -> Document:
    """The whole report. `environment` and `config` are the run's files, None where they are missing."""
    kernels = tables.kernels(summary)
    mood, verdict = _verdict(summary, kernels)
    target = summary["target"]
    facts = [target["device"] or target["kind"]]
    facts += [f"{target['threads']} thread{'s' * (target['threads'] != 1)}"] if target["threads"] else []
    facts += [f"batch {summary['model']['batch']}"] if summary["model"]["batch"] else []
    sections = (
        _end_to_end(summary),
        _kernels(summary, kernels),
        _search(summary, kernels, records),
        _roofline(summary, kernels),
        _failures(summary, records),
        _proposers(kernels, records),
        _export(summary),
        _environment(environment if environment is not None else summary["environment"]),
        _notes(summary, kernels, records, environment, config),
        _reproduce(summary, config),
    )
    subtitle = " · ".join([*facts, f"run {summary['run_id']}"])
    return Document(f"Tuning {summary['model']['name']}", subtitle, mood, verdict, sections)


# --- the verdict --------------------------------------------------------------------------------


def compare(ours_s: float, ours: Sequence[float] | None, other_s: float, other: Sequence[float] | None) -> str:
    """FASTER, SLOWER, SAME or UNDECIDED: our time against another, in seconds with 95 % intervals.

    Decided only when the intervals are apart by more than half a percent.
    """
    low, high = _ends(ours_s, ours)
    other_low, other_high = _ends(other_s, other)
    least, most = math.log(other_low / high), math.log(other_high / low)  # log of how many times as fast we are
    if least > _SAME_WITHIN:
        return "FASTER"
    if most < -_SAME_WITHIN:
        return "SLOWER"
    return "SAME" if max(abs(least), abs(most)) <= _SAME_WITHIN else "UNDECIDED"


def _ends(value: float, interval: Sequence[float] | None) -> tuple[float, float]:
    return (interval[0], interval[1]) if interval else (value / (1 + _UNREPEATED), value * (1 + _UNREPEATED))


def _phrase(verdict: str, ratio: float, name: str) -> str:
    """`ratio` is the other's time over ours."""
    if verdict == "FASTER":
        return f"{units.ratio(ratio)} faster than {name}"
    if verdict == "SLOWER":
        return f"{units.ratio(1 / ratio)} slower than {name}"
    if verdict == "SAME":
        return f"as fast as {name}, as far as this run's noise lets one tell (medians: {units.ratio(ratio)})"
    return (
        f"not clearly faster or slower than {name} (medians differ by {units.ratio(ratio)}, which is within the noise)"
    )


def _bars(summary: Mapping[str, Any]) -> list[figures.Bar]:
    """Ours first, then untuned TVM, then the rivals."""
    whole = summary["end_to_end"]
    if whole is None:
        return []
    rivals = {name: value or {"median_s": None, "interval_s": None} for name, value in whole["baselines"].items()}
    untuned = rivals.pop("untuned", {"median_s": None, "interval_s": None})
    if untuned["median_s"] is None:
        untuned = {"median_s": whole["untuned_s"], "interval_s": None}
    return [
        (OUR_NAME, whole["tuned_s"], whole["interval_s"]),
        (units.rival_name("untuned"), untuned["median_s"], untuned["interval_s"]),
        *((units.rival_name(name), value["median_s"], value["interval_s"]) for name, value in rivals.items()),
    ]


def _verdict(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel]) -> tuple[str, tuple[str, ...]]:
    whole, bars = summary["end_to_end"], _bars(summary)
    name = summary["model"]["name"]
    effort = _effort(summary)
    if whole is None or whole["tuned_s"] is None:
        won = sum(kernel.data["verdict"] == "FASTER" for kernel in kernels)
        return "open", (
            f"{name} was not timed end to end, so there is no verdict on the whole model;"
            f" {won} of its {len(kernels)} kernels became faster.",
            effort,
        )
    ours, interval = whole["tuned_s"], whole["interval_s"]
    verdicts, phrases = [], []
    rivals = [bar for bar in bars[2:] if bar[1] is not None]
    best = min(rivals, key=lambda bar: bar[1] or 0.0, default=None)
    for bar, text in ((bars[1], "{}"), (best, f"the best baseline ({{}}, {units.seconds(best[1] if best else None)})")):
        if bar is None or bar[1] is None:
            continue
        verdicts.append(_against(whole, bar))
        phrases.append(_phrase(verdicts[-1], bar[1] / ours, text.format(bar[0])))
    missing = "" if rivals else " No baseline was measured."
    against = f": {', and '.join(phrases)}" if phrases else ", with nothing to compare it with"
    sentence = f"{name} runs in {units.seconds(ours, interval)}{against}; {_verified(whole)}.{missing}"
    if whole["verified"] is False:
        return "bad", (f"WRONG RESULTS: {sentence}", effort)
    if "SLOWER" in verdicts:
        return "bad", (sentence, effort)
    settled = bool(rivals) and whole["verified"] is True and "UNDECIDED" not in verdicts
    return ("good" if settled else "open"), (sentence, effort)


def _given(whole: Mapping[str, Any], shown: str) -> str | None:
    """The verdict of a paired comparison where the run made one; it is sharper than two intervals."""
    given = {name: value.get("verdict") for name, value in whole["baselines"].items() if value}
    for name, verdict in {**given, **whole.get("verdicts", {})}.items():
        if units.rival_name(name) == shown and verdict not in (None, "NOT TUNED"):
            return str(verdict)
    return None


def _against(whole: Mapping[str, Any], bar: figures.Bar) -> str:
    """Ours against one bar; empty where one of them was not timed."""
    ours = whole["tuned_s"]
    if ours is None or bar[1] is None:
        return ""
    return _given(whole, bar[0]) or compare(ours, whole["interval_s"], bar[1], bar[2])


def _verified(whole: Mapping[str, Any]) -> str:
    error = whole["max_rel_error"]
    detail = "" if error is None else f" (max relative error {units.digits(error)})"
    if whole["verified"] is None:
        return f"its outputs were NOT verified{detail}"
    if whole["verified"]:
        return f"all outputs verified{detail}"
    return f"its outputs do not agree with the reference{detail}"


def _effort(summary: Mapping[str, Any]) -> str:
    search = summary["search"]
    failed = sum(number or 0 for kind, number in search["failed"].items() if kind != Status.CENSORED)
    parts = [f"{units.count(search['measured'])} trials measured", f"{units.count(failed)} failed"]
    parts += [f"{units.count(search['reused'])} reused from earlier runs"] if search["reused"] else []
    ended = f"; stopped by {search['stopped_by']}" if search["stopped_by"] else ""
    return f"Search ({search['strategy']}) took {units.duration(search['wall_s'])}: {', '.join(parts)}{ended}."


# --- the sections -------------------------------------------------------------------------------


def _end_to_end(summary: Mapping[str, Any]) -> Section:
    title, bars = "End to end", _bars(summary)
    picture = figures.end_to_end(bars)
    if picture is None:
        return Section(title, ("The whole model was not timed.",))
    whole = summary["end_to_end"]
    verdicts = [_against(whole, bar) if bar is not bars[0] else "" for bar in bars]
    floor = whole.get("noise_floor")
    text = () if floor is None else (f"Differences within {2 * floor:.1%}, twice what the tuned model differs from"
                                     " itself by, are not called differences.",)  # fmt: skip
    return Section(title, text, (picture,), tables.end_to_end_table(bars, bars[0][1], verdicts))


def _kernels(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel]) -> Section:
    if not kernels:
        return Section("Kernels", ("No kernel reached the report.",))
    text = (
        "Sorted by share of the model's kernel time. Ratios above ×1 mean that the tuned kernel is faster."
        " A kernel that is not faster than its default schedule keeps the default."
        " “re-measured”: by how much the certified time is above the one that the search believed; “ties”: other"
        " finalists that are as fast, as far as this machine can tell.",
    )
    return Section("Kernels", text, (), tables.kernel_table(kernels))


def _search(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel], records: Sequence[Record]) -> Section:
    found = curves.progress(kernels, records, summary["run_id"])
    tasks = figures.task_progress(found, kernels)
    if found.model_s is None and tasks is None:
        return Section("Search", ("No trial of this run is on record: there is no curve to draw.",))
    text = ["Times as the search saw them, before the winners were measured again."]
    pictures = []
    if found.model_s is not None:
        untuned = sum(k.data["untuned_s"] * (k.data["weight"] or 1) for k in kernels if k.data["untuned_s"] is not None)
        pictures.append(figures.model_progress(found.model_s, untuned))
    if tasks is not None:
        pictures.append(tasks)
    return Section("Search", tuple(text), tuple(pictures))


def _roofline(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel]) -> Section:
    ceilings = summary.get("ceilings") or {}
    peak, bandwidth = ceilings.get("peak_flops_per_s"), ceilings.get("bandwidth_bytes_per_s")
    if peak is None or bandwidth is None:
        return Section("Roofline", ("The machine's ceilings were not measured.",))
    picture = figures.roofline(kernels, peak, bandwidth)
    if picture is None:
        return Section("Roofline", ("No kernel has a time, flops and bytes.",))
    text = (
        "Numbers are those of the kernel table."
        " A point can stand above the bandwidth line when its data stays in cache.",
    )
    return Section("Roofline", text, (picture,))


def _failures(summary: Mapping[str, Any], records: Sequence[Record]) -> Section:
    table = tables.failure_table(summary, records)
    return (
        Section("Failures by kind", table=table) if table.rows else Section("Failures by kind", ("No trial failed.",))
    )


def _proposers(kernels: Sequence[tables.Kernel], records: Sequence[Record]) -> Section:
    title = "What each proposer won"
    if not records:
        return Section(title, ("No trial is on record.",))
    text = ("Reused records of earlier runs count here too.",)
    return Section(title, text, table=tables.proposer_table(kernels, records))


def _export(summary: Mapping[str, Any]) -> Section:
    made = summary["export"]
    if made is None:
        return Section("Export", ("Nothing was exported.",))
    return Section("Export", (f"{made['path']}, SHA-256 {made['sha256']}",))


def _environment(environment: Mapping[str, Any] | None) -> Section:
    if not environment:
        return Section("Environment", ("The environment was not recorded.",))
    return Section("Environment", table=tables.environment_table(environment))


def _notes(
    summary: Mapping[str, Any],
    kernels: Sequence[tables.Kernel],
    records: Sequence[Record],
    environment: Mapping[str, Any] | None,
    config: str | None,
) -> Section:
    notes = list(summary.get("notes") or ())
    if environment is None:
        notes.append("environment.json is missing or unreadable; the environment shown is the summary's own.")
    if config is None:
        notes.append("config.yaml is missing or unreadable.")
    unmeasured = [name for name, value, _ in _bars(summary)[1:] if value is None]
    if unmeasured:
        notes.append(f"Not measured end to end: {', '.join(unmeasured)}.")
    without = sum(kernel.data["tuned_s"] is None for kernel in kernels)
    if without:
        notes.append(f"{without} of {len(kernels)} kernels have no tuned time; the model runs their default schedules.")
    if any(kernel.data["untuned_s"] is None for kernel in kernels):
        notes.append("Some kernels have no untuned time; the model's search curve leaves them out.")
    if not records:
        notes.append("No records were found, so curves and proposers are missing.")
    return Section("Notes", tuple(notes) or ("None.",))


def _reproduce(summary: Mapping[str, Any], config: str | None) -> Section:
    seed = "" if summary["seed"] is None else f"# seed {summary['seed']}\n"
    resolved = "" if config is None else f"\n\n# config.yaml, as resolved for this run\n{config.strip()}"
    return Section("Reproduce", code=f"{seed}{summary['command']}{resolved}")
