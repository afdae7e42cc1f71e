"""What the files under results/ say, as figures by name: one function for each kind of file.

`experiments/papers.py` puts them into the documents. A new file of a known kind (the patterns of `READERS`) needs no
code. A new kind needs one function, from a path to figures, and one line in `READERS`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.common import ROOT
from experiments.comparison.results import report
from experiments.models.run import mean_speedup
from experiments.models.run import table as model_table
from experiments.search.results import certified, searchers, torch_s, trials_per_s
from experiments.search.tasks import TASKS, flops

Figures = dict[str, str]
"""Texts by name: numbers with their units, sentences, and tables, which begin and end with a newline."""

MISSING = "–"
LABELS = ("FASTER", "SLOWER", "SAME", "UNDECIDED")
CHECKPOINTS = ("64 trials", "60 s")
OTHERS = {"metaschedule": "MetaSchedule", "torch": "PyTorch"}


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


# --- verdicts ---------------------------------------------------------------------------------------


def verdicts(path: Path) -> Figures:
    """Of experiments/verdicts: comparisons of kernels whose true difference is known."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    labels = Counter(row["label"] for row in rows)
    floors = [row["floor"] for row in rows if row["floor"] is not None]
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return {
        "comparisons": str(len(rows)),
        **{label: str(labels[label]) for label in LABELS},
        "SLOWER share": percent(labels["SLOWER"] / len(rows)),
        "FASTER or SLOWER share": percent((labels["FASTER"] + labels["SLOWER"]) / len(rows)),
        "median floor": percent(statistics.median(floors), 2),
        "largest floor": percent(max(floors), 2),
        "least ratio": f"{min(ratios):.3f}",
        "largest ratio": f"{max(ratios):.3f}",
        "seconds each": f"{statistics.mean(row['seconds'] for row in rows):.1f} s",
        "finding": f"{len(rows)} comparisons: " + ", ".join(f"{labels[label]} {label}" for label in LABELS),
    }


# --- the site ---------------------------------------------------------------------------------------


def site(path: Path) -> Figures:
    """Of experiments/site: what a long history's site takes."""
    found = json.loads(path.read_text("utf-8"))
    opened = max(found["opened_s"].values())
    return {
        "scale": f"The site of {found['cells']} cells and {found['nights']:,} nights takes {found['seconds']:.0f} s "
        f"and {found['peak_MiB']} MiB; its largest page has {found['largest_page_bytes'] / 1e3:.0f} kB and opens in "
        f"{opened:.2f} s"
    }


# --- whole models -----------------------------------------------------------------------------------


def models(path: Path) -> Figures:
    """Of experiments/models: each model tuned, against every baseline."""
    rows = json.loads(path.read_text("utf-8"))
    mean = mean_speedup(rows)
    return {
        "table": f"\n{model_table(rows)}\n",
        "models": str(len({row["model"] for row in rows})),
        "mean speedup": MISSING if mean is None else f"{mean:.3f}",
    }


def precision_products(path: Path) -> Figures:
    """Of experiments/precision: products of narrower numbers against float32."""
    told = json.loads(path.read_text("utf-8"))
    rows = [
        (name, f"{k['gops']:.0f}", f"{k['times_float32']:.2f}", f"{k['interval'][0]:.2f} to {k['interval'][1]:.2f}")
        for name, k in told["kernels"].items()
    ]
    times = {name: f"{k['times_float32']:.2f}" for name, k in told["kernels"].items()}
    return {"table": table(("operands", "GOP/s", "times float32", "95 % interval"), rows), **times}


# --- comparisons of whole models --------------------------------------------------------------------


def comparison(path: Path) -> Figures:
    """Of experiments/comparison: baselines in the comparison of `tuner run`, and run alone."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    *rows, found = report(lines)
    return {"finding": found, "table": "\n" + "".join(f"{row}\n" for row in rows)}


# --- throughput -------------------------------------------------------------------------------------


def throughput(path: Path) -> Figures:
    """Of experiments/throughput: trials a second of this program's search and of MetaSchedule's.

    Earlier files have the searcher under `side`, and call this program's search `ours`.
    """
    runs: dict[str, dict[bool, list[dict[str, Any]]]] = {}
    for row in json.loads(path.read_text("utf-8")):
        searcher = row["searcher" if "searcher" in row else "side"]
        runs.setdefault(row["task"], {True: [], False: []})[searcher != "metaschedule"].append(row)
    lines = [_rates(task, own_and_other[True], own_and_other[False]) for task, own_and_other in runs.items()]
    heads = ("task", "trials/s", "MetaSchedule", "ratio", "best kernels, GFLOP/s", "MetaSchedule's")
    sentences = [f"{task} {own} trials/s against {other}, {ratio} times" for task, own, other, ratio, *_ in lines]
    return {
        **{f"{line[0]} ratio": line[3] for line in lines},
        "table": table(heads, lines),
        "finding": "; ".join(sentences),
    }


def _rates(task: str, own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Median trials a second of both, their ratio, and the speed of the best kernel of each round."""
    medians = [statistics.median(run["trials_per_s"] for run in runs) for runs in (own, other)]
    speeds = [", ".join(f"{run['gflops']:.0f}" for run in runs) for runs in (own, other)]
    return (task, *(f"{rate:.2f}" for rate in medians), f"{medians[0] / medians[1]:.1f}", *speeds)


# --- whole models -----------------------------------------------------------------------------------


def run_summary(path: Path) -> Figures:
    """Of `tuner run`: the whole model beside its baselines."""
    summary = json.loads(path.read_text("utf-8"))
    models, search = summary["end_to_end"], summary["search"]
    tuned_s = models["tuned_s"]
    # Of the pairs that gave the verdict: medians may say the contrary. Earlier files do not have them.
    speedups = {name: three(1.0 / ratio) for name, ratio in models.get("ratios", {}).items() if ratio}
    compared = ", ".join(
        " ".join([*([f"x{speedups[name]}"] if name in speedups else []), f"`{name}`", verdict])
        for name, verdict in models["verdicts"].items()
    )
    state = f" with the CPUs {models['state']}" if models.get("state") else ""
    minutes, seconds = divmod(round(search["wall_s"]), 60)
    checked = "outputs verified" if models["verified"] else "outputs not verified"
    return {
        "run": summary["run_id"],
        "tuned": duration(tuned_s),
        **{f"times {name}": speedup for name, speedup in speedups.items()},
        "finding": f"batch {summary['model']['batch']}, {summary['target']['threads']} threads: "
        f"{duration(tuned_s)}{state}, {checked}; {compared}. "
        f"Search: {minutes} min {seconds} s, {search['measured']:,} trials",
    }


# --- search -----------------------------------------------------------------------------------------


def search(path: Path) -> Figures:
    """Of experiments/search: kernels that `guided` and others would ship after equal trials and equal seconds."""
    results = json.loads(path.read_text("utf-8"))
    tasks = {task: results["tasks"][task] for task in TASKS if task in results["tasks"]}
    figures = {"tasks": str(len(tasks)), "peak": f"{results['peak_flops_per_s'] / 1e9:.0f} GFLOP/s"}
    for task, entry in tasks.items():
        figures |= {f"{task} {name}": duration(seconds) for name, seconds in certified(entry).items()}
        figures |= {f"{task} {searcher} trials": str(run["trials"]) for searcher, run in searchers(entry).items()}
    for checkpoint in CHECKPOINTS:
        for other in OTHERS:
            ratios = {task: _times_as_long(entry, other, checkpoint) for task, entry in tasks.items()}
            figures |= _spread(f"{other} @ {checkpoint}", ratios)
    figures |= _spread("trials a second", {task: _times_the_trials(entry) for task, entry in tasks.items()}, digits=1)
    return {**figures, "finding": _search_finding(figures), "table": _search_table(tasks, results["peak_flops_per_s"])}


def _times_as_long(entry: Mapping[str, Any], other: str, checkpoint: str) -> float | None:
    """How many times longer than guided's kernel the other's takes; of PyTorch the best form at any time."""
    seconds = certified(entry)
    own_s = seconds.get(f"guided @ {checkpoint}")
    other_s = torch_s(entry) if other == "torch" else seconds.get(f"{other} @ {checkpoint}")
    return other_s / own_s if own_s and other_s else None


def _times_the_trials(entry: Mapping[str, Any]) -> float | None:
    rates = trials_per_s(entry)
    return rates["guided"] / rates["metaschedule"] if {"guided", "metaschedule"} <= rates.keys() else None


def _spread(name: str, ratios: Mapping[str, float | None], digits: int = 2) -> Figures:
    """Geometric mean and least of a ratio over the tasks that have it; nothing where none has."""
    known = {task: ratio for task, ratio in ratios.items() if ratio is not None}
    if not known:
        return {}
    worst = min(known, key=lambda task: known[task])
    return {
        f"{name} mean": f"{statistics.geometric_mean(known.values()):.{digits}f}",
        f"{name} least": f"{known[worst]:.{digits}f}",
        f"{name} least task": worst,
        f"{name} tasks": str(len(known)),
    }


def _search_finding(figures: Figures) -> str:
    means = {(c, o): figures.get(f"{o} @ {c} mean") for c in CHECKPOINTS for o in OTHERS}
    sentences = [
        f"{mean} times {OTHERS[other]}'s speed after {checkpoint} (tasks: {figures[f'{other} @ {checkpoint} tasks']})"
        for (checkpoint, other), mean in means.items()
        if mean
    ]
    if "trials a second mean" in figures:
        sentences.append(f"{figures['trials a second mean']} times MetaSchedule's trials a second")
    return "; ".join(sentences)


def _search_table(tasks: Mapping[str, Any], peak: float) -> str:
    """A line a task; a column only where some task has something to say in it."""
    columns: dict[str, list[str]] = {"task": list(tasks)}
    for checkpoint in CHECKPOINTS:
        own = {task: certified(entry).get(f"guided @ {checkpoint}") for task, entry in tasks.items()}
        columns[f"guided, {checkpoint}"] = [duration(seconds) if seconds else MISSING for seconds in own.values()]
        columns[f"of peak, {checkpoint}"] = [
            percent(flops(task) / seconds / peak) if seconds and TASKS[task].bound == "arithmetic" else MISSING
            for task, seconds in own.items()
        ]
        for other, name in OTHERS.items():
            ratios = [_times_as_long(entry, other, checkpoint) for entry in tasks.values()]
            columns[f"{name}, {checkpoint}"] = [f"{ratio:.2f}" if ratio else MISSING for ratio in ratios]
    for strategy in ("guided", "metaschedule"):
        known = [trials_per_s(entry).get(strategy) for entry in tasks.values()]
        rates = [f"{rate:.1f}" if rate else MISSING for rate in known]
        columns[f"trials/s, {OTHERS.get(strategy, strategy)}"] = rates
    shown = {name: cells for name, cells in columns.items() if set(cells) != {MISSING}}
    return table(list(shown), list(zip(*shown.values(), strict=True)))


def opencl_kernels(path: Path) -> Figures:
    """Of experiments/opencl/kernels.py: candidates that were executed, and sabotages that were seen."""
    found = json.loads(path.read_text("utf-8"))
    programs = found["programs"]
    seen = {
        kind: "{} of {}".format(*(sum(p["sabotages"][kind][key] for p in programs) for key in ("seen", "made")))
        for kind in programs[0]["sabotages"]
    }
    return {
        **seen,
        "finding": f"{found['right']} of {found['executed']} candidates of {len(programs)} programs are right; seen "
        "are " + " and ".join(f"{numbers} sabotages with {kind}" for kind, numbers in seen.items()),
    }


def cuda_simulated(path: Path) -> Figures:
    """Of experiments/cuda_simulated: candidates that were executed, and sabotages that were seen."""
    found = json.loads(path.read_text("utf-8"))
    seen = {kind: f"{counts['seen']} of {counts['made']}" for kind, counts in found["sabotages"].items()}
    failed = [f"{words}: {count}" for words, count in found["outcomes"].items()]
    return {
        **seen,
        "finding": f"{found['right']} of {found['executed']} candidates of {len(found['programs'])} programs that "
        f"compile are right{' (' + ', '.join(failed) + ')' if failed else ''}; of the sabotages are seen "
        + ", ".join(f"{numbers} with {kind}" for kind, numbers in seen.items()),
    }


def opencl_models(path: Path) -> Figures:
    """Of experiments/opencl/models.py: whole models whose outputs were compared."""
    rows = json.loads(path.read_text("utf-8"))["models"]
    right = [row for row in rows if row["verified"]]
    names = list(dict.fromkeys(row["model"] for row in rows))
    cells = [
        [row["model"], row["weights"], str(row["candidates"]), row["compared_with"],
         f"{row['max_rel_error']:.2g}" if row["verified"] else row["reason"]]
        for row in rows
    ]  # fmt: skip
    return {
        "finding": f"{len(right)} of {len(rows)} runs of {len(names)} models give the right outputs",
        "table": table(("model", "weights", "candidates", "compared with", "largest error, relative"), cells),
    }


def onnx_backend(path: Path) -> Figures:
    """Of experiments/onnx_backend: how many node tests are answered rightly."""
    from experiments.onnx_backend.run import summary

    core, every = summary(json.loads(path.read_text("utf-8"))).splitlines()
    return {"core": core, "all": every}


def large_model(path: Path) -> Figures:
    """Of experiments/large_model: the largest memory of each stage, and how long graphs take to come in."""
    found = json.loads(path.read_text("utf-8"))
    peaks = ", ".join(f"{name} {stage['peak_gib']:.1f} GiB" for name, stage in found["stages"].items())
    seconds = ", ".join(f"{count} nodes {value:.1f} s" for count, value in found["import_s"].items())
    return {"peaks": f"a model of {found['gib']:g} GiB: {peaks}", "seconds": seconds}


def verification(path: Path) -> Figures:
    """Of experiments/verification: how many faults are seen, and which are not."""
    from experiments.verification.summary import missed, summary

    found = json.loads(path.read_text("utf-8"))
    rows = [[model, fault, f"{change:.2g}"] for model, fault, change in missed(found)]
    return {"finding": summary(found), "missed": table(["model", "fault", "changes outputs by up to"], rows)}


def sharing(path: Path) -> Figures:
    """Of experiments/sharing: nanoseconds a line, in each state and for each size."""
    columns = {
        "round_trip_ns": "round trip", "write_own_ns": "write, own",
        "write_read_by_other_ns": "write, read by the other",
        "write_written_by_other_ns": "write, written by the other", "read_own_ns": "read, own",
        "read_written_by_other_ns": "read, written by the other", "runs": "runs",
    }  # fmt: skip
    rows = [[name, *(f"{row[key]:g}" for key in columns)] for name, row in json.loads(path.read_text("utf-8")).items()]
    return {"table": table(["state, buffer", *columns.values()], rows)}


# --- nights -----------------------------------------------------------------------------------------


def nightly(path: Path) -> Figures:
    """Of experiments/nightly: how often nights err."""
    told = json.loads(path.read_text("utf-8"))
    alerts, found, causes = told["alerts"], told["found"], told["causes"]
    first, third = found["5 % within 1"], found["2 % within 3"]
    faults = {name: row for name, row in causes.items() if name != "no fault"}
    rows = [(name, str(row["each"]), percent(row["right"], 1), _instead(row)) for name, row in causes.items()]
    rates = (
        f"{alerts['worse_a_series_year']:.2f} false alerts a series-year ({alerts['series_years']:,} of them); "
        f"+5 % is found in its first night in {percent(first['found_of_all'], 1)}, +2 % within three in "
        f"{percent(third['found_of_all'], 1)} of all series, of which {percent(first['too_noisy'], 1)} say that "
        f"they are too noisy to tell 5 %; the cause is named "
        f"rightly in {percent(min(row['right'] for row in faults.values()), 1)} or more of each kind of fault"
    )
    return {
        "rates": rates,
        "false alerts": f"{alerts['worse_a_series_year']:.2f}",
        "causes": table(("fault", "injected", "named rightly", "instead"), rows),
    }


def _instead(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(row["instead"].items())) or MISSING


def field(path: Path) -> Figures:
    """Of experiments/models/field: which architectures come in, from PyTorch and from ONNX."""
    from experiments.models.field.run import counts
    from experiments.models.field.run import table as field_table

    results = json.loads(path.read_text("utf-8"))
    return {
        "table": f"\n{field_table(results)}\n",
        "by PyTorch": counts(results, "torch"),
        "by ONNX": counts(results, "onnx"),
    }


# --- kernels of C programs --------------------------------------------------------------------------


def raising_variants(path: Path) -> Figures:
    """Of `experiments/raising/run.py variants`: how many ways of writing are recognized, and in what time."""
    found = json.loads(path.read_text("utf-8"))
    levels = found["levels"]
    keys = ("recognized", "left_alone", "mislabelled")
    rows = [[level, *(str(row.get(key, 0)) for key in keys), f"{row['cpu_ms_median']:.0f}", f"{row['cpu_ms_most']:.0f}"]
            for level, row in levels.items()]  # fmt: skip
    recognized = ", ".join(f"{row['recognized']} at `{level}`" for level, row in levels.items())
    mislabelled = sum(row.get("mislabelled", 0) for row in levels.values())
    heads = ("level", "recognized", "left alone", "mislabelled", "CPU ms a function, median", "most")
    return {
        "variants": str(found["variants"]),
        "finding": f"of {found['variants']} ways of writing {recognized} are recognized, and {mislabelled} mislabelled",
        "table": table(heads, rows),
    }


def raising_traps(path: Path) -> Figures:
    """Of `experiments/raising/run.py traps`: what becomes of near misses."""
    found = json.loads(path.read_text("utf-8"))
    levels = found["levels"]
    right = ", ".join(f"{row['right_reason']} of {sum(row.values())} at `{level}`" for level, row in levels.items())
    labelled = sum(row.get("labelled", 0) for row in levels.values())
    return {
        "traps": str(found["traps"]),
        "finding": f"of near misses {right} are left alone for a right reason, and {labelled} labelled",
    }


def raising_fuzz(path: Path) -> Figures:
    """Of `experiments/raising/run.py fuzz`: what broken IR does to the child that reads it."""
    found = json.loads(path.read_text("utf-8"))
    kinds = {
        "findings": "gave findings", "nothing": "gave nothing", "MalformedIr": "were refused as malformed",
        "ModelError": "were refused as models", "died": "made LLVM end its child", "timeout": "took too long",
    }  # fmt: skip
    said = ", ".join(f"{found[kind]:,} {words}" for kind, words in kinds.items() if kind in found)
    return {"mutants": f"{found['count']:,}", "finding": f"of {found['count']:,} mutants of IR {said}"}


READERS: Mapping[str, Callable[[Path], Figures]] = {
    "*/models.json": models,
    "precision_models.json": models,
    "precision_products.json": precision_products,
    "field.json": field,
    "nightly.json": nightly,
    "large_model.json": large_model,
    "onnx_backend.json": onnx_backend,
    "cuda_simulated.json": cuda_simulated,
    "opencl_kernels.json": opencl_kernels,
    "opencl_models.json": opencl_models,
    "raising_variants.json": raising_variants,
    "raising_traps.json": raising_traps,
    "raising_fuzz.json": raising_fuzz,
    "sharing.json": sharing,
    "verification.json": verification,
    "site.json": site,
    "verdicts-*.jsonl": verdicts,
    "comparison*.jsonl": comparison,
    "throughput.json": throughput,
    "search*.json": search,
    "*/summary.json": run_summary,
}
"""Which function reads which files, by the end of their path under results/."""


def reader_of(name: str) -> Callable[[Path], Figures] | None:
    """The function for a path under results/; None where it is not a file of figures."""
    return next((reader for pattern, reader in READERS.items() if PurePosixPath(name).match(pattern)), None)


def read_all(root: Path = ROOT) -> dict[str, Figures]:
    """The figures of every file in the folders of devices, by its path under results/, but not of runs and nights."""
    results = root / "results"
    names = [path.relative_to(results).as_posix() for path in sorted(results.glob("*/**/*")) if path.is_file()]
    readers = {name: reader_of(name) for name in names if not name.startswith(("runs/", "models/", "nightly/"))}
    return {name: reader(results / name) for name, reader in readers.items() if reader}
