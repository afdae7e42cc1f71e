"""What the report says, in order, before it is HTML or Markdown: sections of plain text, tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.caveats import MEASURED, Caveat, Caveats
from tuner.nights import Since
from tuner.records import Record
from tuner.report import account, curves, end_to_end, figures, islands, ladder, precision, roofline, tables, units


@dataclass(frozen=True)
class Section:
    """One heading with what stands under it, in this order: text, links (words and a page), pictures, table, code."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[figures.Picture, ...] = ()
    table: tables.Table | None = None
    code: str | None = None
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Document:
    """The whole report. `headline` says in a few sentences what came out, and whether that is a gain."""

    title: str
    subtitle: str
    headline: end_to_end.Headline
    sections: tuple[Section, ...] = field(default=())

    @property
    def pictures(self) -> list[figures.Picture]:
        return [picture for section in self.sections for picture in section.pictures]


def build(
    summary: Mapping[str, Any],
    records: Sequence[Record],
    environment: Mapping[str, Any] | None,
    config: str | None,
    since: Sequence[Since] = (),
    ladders: Sequence[Mapping[str, Any]] = (),
) -> Document:
    """The whole report. `environment` and `config` are the run's files, None where they are missing; `since` is
    how the model stands since last night; `ladders` are those of its kernels that were explained."""
    kernels = tables.kernels(summary)
    sections = (
        *_end_to_end(summary),
        *([_since(since)] if since else []),
        *_islands(summary),
        *_precision(summary),
        *_account(summary, kernels),
        _kernels(summary, kernels),
        *_ladders(ladders, kernels),
        _search(summary, kernels, records),
        _roofline(summary, kernels),
        _failures(summary, records),
        _proposers(kernels, records),
        *_inputs(summary),
        _export(summary),
        _environment(environment if environment is not None else summary["environment"]),
        _notes(summary, kernels, records, environment, config),
        _reproduce(summary, config),
    )
    title = f"Tuning {summary['model']['name']}"
    return Document(title, _subtitle(summary), end_to_end.headline(summary), sections)


def _since(since: Sequence[Since]) -> Section:
    links = tuple((f"{one.cell}, night by night", one.page) for one in since if one.page)
    return Section("Since last night", tuple(one.sentence for one in since), links=links)


def _subtitle(summary: Mapping[str, Any]) -> str:
    target, batch = summary["target"], summary["model"]["batch"]
    facts = [target["device"] or target["kind"]]
    facts += [f"{target['threads']} thread{'s' * (target['threads'] != 1)}"] if target["threads"] else []
    facts += [f"batch {batch}"] if batch else []
    return " · ".join([*facts, f"run {summary['run_id']}"])


# --- the sections -------------------------------------------------------------------------------


_COLUMNS = (
    "“First call” is the first one after a rest in which other models ran. “Load” is the time from loading the model to"
    " the end of its very first call, with what is compiled then, without importing the framework and making the model."
    " “Peak memory” is the largest resident set of the process, framework and loading included."
)


def _end_to_end(summary: Mapping[str, Any]) -> list[Section]:
    entries, caveat = end_to_end.entries(summary), Caveats.of_summary(summary).model
    picture = figures.end_to_end(entries, caveat)
    if picture is None:
        return [Section("End to end", ("The whole model was not timed.",))]
    whole = summary["end_to_end"]
    text = [
        *caveat.sentences,
        "Median time of one inference in steady state, with its 95 % interval. “Speedup” is how many times as fast the"
        " tuned model is. The speedup beside a verdict is of the same paired comparison as the verdict, so it can"
        " differ from the ratio of the medians.",
    ]
    text += [_COLUMNS] if any(entry.first_call for entry in entries) else []
    text += _state_words(whole)
    if whole.get("noise_floor") is not None:
        text.append(_least_difference(2 * whole["noise_floor"]))
    main = Section("End to end", tuple(text), (picture,), tables.end_to_end_table(entries, caveat))
    others = end_to_end.other_states(summary)
    return [main, *(_in_state(state, listed, whole, caveat) for state, listed in others.items())]


def _in_state(state: str, entries: Sequence[end_to_end.Entry], whole: Mapping[str, Any], caveat: Caveat) -> Section:
    """The comparison in another state of the machine."""
    found = whole["states"][state]
    text = [f"The same, with a round trip of {units.nanoseconds(found['round_trip_s'])}."]
    if found["noise_floor"] is not None:
        text.append(_least_difference(2 * found["noise_floor"]))
    return Section(f"End to end{units.in_state(state)}", tuple(text), table=tables.end_to_end_table(entries, caveat))


def _state_words(whole: Mapping[str, Any]) -> list[str]:
    """In which state of the machine the comparison was made."""
    state = whole.get("state")
    if state is None:
        return []
    if state == "mixed":
        return ["The state of the machine's CPUs changed all the time: figures of several states are taken together."]
    if state == "unknown":
        return ["The state of the machine's CPUs is not known: other processes kept them from being probed."]
    trip = whole.get("states", {}).get(state, {}).get("round_trip_s")
    if trip is None:
        return [f"The CPUs in use are {state}, as Linux states which of them share a cache."]
    measured = f"a cache line's round trip between the CPUs in use took {units.nanoseconds(trip)}"
    if state == "one state":
        return [f"The machine's CPUs were in one state: {measured}."]
    return [f"Figures are those with the CPUs {state}: {measured}. Blocks during which that changed do not count."]


def _least_difference(noise: float) -> str:
    """From which difference on a verdict may be FASTER or SLOWER. `noise` is twice the A/A noise floor."""
    if noise > end_to_end.SAME_WITHIN:
        return f"Differences within {units.percent(noise)}, twice the A/A noise floor of this comparison, do not count."
    return f"Differences within 0.5 % do not count; twice the A/A noise floor of this comparison is {noise:.2%}."


def _islands(summary: Mapping[str, Any]) -> list[Section]:
    if not islands.parts(summary):
        return []
    text = (
        f"{islands.sentence(summary)}.",
        "Parts run one after the other. What cannot be compiled is an island, which ONNX Runtime computes in the tuned"
        " model, too. Times are means, with all other parts around them.",
        *Caveats.of_summary(summary).model.sentences,
    )
    return [Section("Parts that are not tuned", text, table=islands.table(summary))]


def _precision(summary: Mapping[str, Any]) -> list[Section]:
    if not precision.stated(summary):
        return []
    points = precision.points(summary, end_to_end.entries(summary))
    caveat = Caveats.of_summary(summary).model
    picture = figures.trade(points, precision.mixes(summary), caveat)
    pictures = () if picture is None else (picture,)
    text = (*precision.sentences(summary), *(caveat.sentences if pictures else ()))
    return [Section("Precision", text, pictures, precision.table(summary))]


def _account(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel]) -> list[Section]:
    parts = account.parts(summary, kernels)
    if not parts:
        return []
    text = (
        *(["It is that of the tuned parts, together."] if islands.parts(summary) else []),
        *account.sentences(summary, parts),
        "Times are of all calls of one inference. “Certified” is the kernel's time alone, as the table below has it."
        " Sorted by how far above its lower bound a part is.",
    )
    picture = figures.account(parts, summary["account"]["end_to_end_s"], Caveats.of_summary(summary).model)
    return [Section("Where the time goes", text, (picture,), account.table(summary, parts))]


def _kernels(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel]) -> Section:
    if not kernels:
        return Section("Kernels", ("No kernel reached the report.",))
    text = (
        *Caveats.of_summary(summary).kernel.sentences,
        "Sorted by share of the model's kernel time. Times are medians of one call. Speedups above ×1 mean that the"
        " tuned kernel is faster. A kernel that is not faster than its default schedule keeps the default.",
        "“Re-measured” is the re-measurement shift: by how much the certified time is above the one that the search had"
        " found. “Of peak” is the share of the peak of what the kernel computes in. “Ties” are other finalists that"
        " cannot be told from the winner.",
    )
    return Section("Kernels", text, (), tables.kernel_table(kernels))


def _ladders(ladders: Sequence[Mapping[str, Any]], kernels: Sequence[tables.Kernel]) -> list[Section]:
    shown = ladder.heaviest(ladders, kernels)
    pictures = tuple(picture for told in shown if (picture := figures.ladder(told)) is not None)
    if not pictures:
        return []
    text = (
        *dict.fromkeys(sentence for told in shown for sentence in ladder.caveat_of(told).sentences),
        "How the schedules of some kernels came about: each step was built, checked and timed again, interleaved"
        f" with the others. The programs themselves are in {ladder.FOLDER}/, one page a kernel.",
    )
    return [Section("Ladders of kernels", text, pictures)]


def _search(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel], records: Sequence[Record]) -> Section:
    search = curves.search_curves(kernels, records, summary["run_id"])
    caveat = Caveats.of_summary(summary).kernel
    pictures = []
    if search.model_s is not None:
        untuned = sum(k.data["untuned_s"] * (k.data["weight"] or 1) for k in kernels if k.data["untuned_s"] is not None)
        pictures.append(figures.model_progress(search.model_s, untuned, caveat))
    tasks = figures.task_progress(search, kernels)
    if tasks is not None:
        pictures.append(tasks)
    if not pictures:
        return Section("Search", ("No trial of this run is on record: there is no curve to draw.",))
    text = "Times are those of the search, before the winners were certified."
    return Section("Search", (text, *caveat.sentences), tuple(pictures))


def _roofline(summary: Mapping[str, Any], kernels: Sequence[tables.Kernel]) -> Section:
    ceilings = summary.get("ceilings") or {}
    bandwidth, source = ceilings.get("bandwidth_bytes_per_s"), ceilings.get("source", MEASURED)
    if ceilings.get("peak_flops_per_s") is None or bandwidth is None:
        return Section("Roofline", ("The machine's ceilings were not measured.",))
    caveat = Caveats.of_summary(summary).kernel
    picture = roofline.drawn(kernels, bandwidth, source, caveat)
    if picture is None:
        return Section("Roofline", ("No kernel has a time, flops and bytes.",))
    text = (
        *caveat.sentences,
        "Numbers are those of the kernel table. A kernel is held against the peak of what it computes in."
        " A point can stand above the bandwidth line when its data stays in cache.",
    )
    return Section("Roofline", text, (picture,))


def _failures(summary: Mapping[str, Any], records: Sequence[Record]) -> Section:
    table = tables.failure_table(summary, records)
    if not table.rows:
        return Section("Failed trials", ("No trial failed.",))
    return Section("Failed trials", Caveats.of_summary(summary).kernel.sentences, table=table)


def _proposers(kernels: Sequence[tables.Kernel], records: Sequence[Record]) -> Section:
    title = "Winners by proposer"
    if not records:
        return Section(title, ("No trial is on record.",))
    text = ("Reused records of earlier runs count here too.",)
    return Section(title, text, table=tables.proposer_table(kernels, records))


def _inputs(summary: Mapping[str, Any]) -> list[Section]:
    """Where the whole model's inputs are from; nothing for a summary of an earlier version."""
    known = summary.get("inputs")
    if not known:
        return []
    first, *others = known["sets"]
    sets = f"Timed and verified with {first}" + (f"; verified with {', '.join(others)}, too." if others else ".")
    shapes = {name: "x".join(map(str, shape)) or "a scalar" for name, shape in summary["model"]["inputs"].items()}
    if data := known.get("data"):
        text = (f"From model.data: {data['path']}, SHA-256 {data['sha256']}.", sets)
        rows = [(name, shape, "from model.data") for name, shape in shapes.items()]
    else:
        text = ("Drawn from what the model's use of them allows.", sets)
        rows = [(name, shape, known.get("drawn", {}).get(name, "")) for name, shape in shapes.items()]
    return [
        Section(
            "Inputs", text, table=tables.Table(("input", "shape", "values"), tuple(rows), words=frozenset({0, 1, 2}))
        )
    ]


def _export(summary: Mapping[str, Any]) -> Section:
    exported = summary["export"]
    if exported is None:
        return Section("Export", ("Nothing was exported.",))
    return Section("Export", (f"{exported['path']}, SHA-256 {exported['sha256']}",))


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
    unmeasured = [entry.name for entry in end_to_end.entries(summary)[1:] if entry.median_s is None]
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
