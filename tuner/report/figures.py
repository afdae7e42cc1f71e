"""The pictures of the report, as PNG bytes.

One accent colour is always the tuned result, untuned TVM is always grey, baselines are blue (Okabe and
Ito's colours, which colour-blind readers can tell apart). Names are drawn as they are: no markup.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tuner.caveats import NONE, Caveat
from tuner.report import units
from tuner.report.account import Part
from tuner.report.curves import Curve, SearchCurves
from tuner.report.end_to_end import TUNED, TUNED_NAME, UNTUNED, Entry
from tuner.report.tables import Kernel

TUNED_COLOUR = "#D55E00"
UNTUNED_COLOUR = "#8C8C8C"
BASELINE_COLOUR = "#0072B2"
INK = "#222222"
FAINT = "#D9D9D9"
_TASK_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#444444")

WIDTH = 7.2  # inches; at 160 dots an inch the 14-point text stays readable when a phone shrinks the picture
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 14,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 14,
    "axes.titlelocation": "left",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "figure.facecolor": "white",
    "savefig.dpi": 160,
}
_LOG_FROM = 20.0  # a linear axis hides the short bars when the longest is more than this many times longer


@dataclass(frozen=True)
class Picture:
    """`name` is the file's stem; `alt` says in words what there is to see."""

    name: str
    alt: str
    png: bytes


def drawable(name: str, limit: int = 26) -> str:
    """A name cut to `limit` characters in its middle, with what the picture's font cannot draw as `?`."""
    plain = "".join(c if c.isprintable() else " " for c in name.encode("latin-1", "replace").decode("latin-1"))
    if len(plain) <= limit:
        return plain
    return f"{plain[: limit - limit // 3 - 1]}…{plain[-(limit // 3) :]}"


def end_to_end(entries: Sequence[Entry], caveat: Caveat = NONE) -> Picture | None:
    """Horizontal bars in milliseconds, fastest on top, with 95 % intervals. None when there is nothing to draw."""
    timed = sorted((e for e in entries if e.median_s is not None), key=lambda entry: entry.median_s or 0.0)
    if not timed:
        return None
    medians = [1e3 * (entry.median_s or 0.0) for entry in timed]
    log = medians[-1] / medians[0] > _LOG_FROM
    left = 10 ** math.floor(math.log10(medians[0]) - 0.3) if log else 0.0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.62 * len(timed)), layout="constrained")
        axes = figure.subplots()
        ends = [_bar(axes, row, entry, left) for row, entry in enumerate(timed)]
        axes.set_yticks(range(len(timed)), [drawable(entry.name) for entry in timed])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        if log:
            axes.set_xscale("log")
            axes.set_xlim(left, medians[-1] * (medians[-1] / left) ** 0.25)
        else:
            axes.set_xlim(0, max(ends) * 1.22)
        plain_ticks(axes.xaxis, log)
        note = "; ".join(filter(None, [caveat.words, "log scale" if log else "shorter is better"]))
        figure.supxlabel(f"ms for one inference, median and 95 % interval ({note})", fontsize=12.5)
        words = ", ".join(f"{e.name} {units.milliseconds(e.median_s, e.interval_s)}" for e in timed)
        return rendered(figure, "end_to_end", f"{caveat.beside('End-to-end time')}: {words}.")


def _bar(axes: Axes, row: int, entry: Entry, left: float) -> float:
    """Draw one entry with its interval and its time; where it ends, in milliseconds."""
    median = end = 1e3 * (entry.median_s or 0.0)
    colour = {TUNED: TUNED_COLOUR, UNTUNED: UNTUNED_COLOUR}.get(entry.key, BASELINE_COLOUR)
    axes.barh(row, median - left, left=left, height=0.62, color=colour)
    if entry.interval_s is not None:
        low, high = (1e3 * bound for bound in entry.interval_s)
        reach = [[max(0.0, median - low)], [max(0.0, high - median)]]
        axes.errorbar(median, row, xerr=reach, color=INK, capsize=5, linewidth=1.6)
        end = max(median, high)
    axes.annotate(units.milliseconds(entry.median_s), (end, row), (8, 0), textcoords="offset points", va="center",
                  weight="bold" if entry.key == TUNED else "normal")  # fmt: skip
    return end


def account(parts: Sequence[Part], whole_s: float, caveat: Caveat = NONE) -> Picture:
    """One bar of what one inference spends its time on: the longest kernels, the others, and the runtime."""
    kernels = sorted((part for part in parts if part.is_kernel), key=lambda part: -part.seconds)
    shown = [(part.name, part.seconds) for part in kernels[: len(_TASK_COLOURS)]]
    others = sum(part.seconds for part in kernels[len(_TASK_COLOURS) :])
    shown += [(f"the other {len(kernels) - len(shown)} kernels", others)] if others else []
    colours = [*_TASK_COLOURS[: min(len(kernels), len(_TASK_COLOURS))], *([FAINT] if others else [])]
    between = [part for part in parts if not part.is_kernel]
    shown += [(part.name, part.seconds) for part in between]
    colours += [TUNED_COLOUR, UNTUNED_COLOUR][: len(between)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.9 + 0.27 * len(shown)), layout="constrained")
        axes = figure.subplots()
        start, bars = 0.0, list[Any]()
        for (_, seconds), colour in zip(shown, colours, strict=True):
            bars.append(axes.barh(0, 1e3 * seconds, left=start, height=0.6, color=colour, edgecolor="white"))
            start += 1e3 * seconds
        axes.axvline(1e3 * whole_s, color=INK, linewidth=1.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(0, 1.04 * max(start, 1e3 * whole_s))
        plain_ticks(axes.xaxis, False)
        axes.set_xlabel(f"{caveat.beside('ms of one inference')}; the line: end to end", fontsize=12.5)
        labels = [f"{drawable(name, 44)}, {units.milliseconds(seconds)}" for name, seconds in shown]
        figure.legend(bars, labels, loc="outside lower left", frameon=False, fontsize=12, handlelength=1.2)
        words = ", ".join(f"{name} {units.milliseconds(seconds)}" for name, seconds in shown)
        whole = caveat.beside(units.milliseconds(whole_s))
        return rendered(figure, "account", f"Of {whole} end to end: {words}.")


def trade(
    points: Sequence[tuple[str, float, float]], mixes: Sequence[tuple[float, float]], caveat: Caveat = NONE
) -> Picture | None:
    """Time against error, a point an entry (name, seconds, relative error), the tuned one in its colour; small ones for
    the mixes of precisions that were looked at. None with fewer than two points."""
    if len(points) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.scatter([1e3 * t for t, _ in mixes], [error for _, error in mixes], s=14, color=FAINT)
        for name, seconds, error in points:
            colour = TUNED_COLOUR if name == TUNED_NAME else BASELINE_COLOUR
            axes.scatter([1e3 * seconds], [error], s=70, color=colour, zorder=3)
            axes.annotate(drawable(name, 34), (1e3 * seconds, error), (7, 4), textcoords="offset points", fontsize=11)
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.margins(x=0.35, y=0.12)
        axes.set_xlabel(caveat.beside("ms for one inference"), fontsize=12.5)
        axes.set_ylabel("error against float64", fontsize=12.5)
        words = ", ".join(f"{name} {units.milliseconds(t)} with an error of {e:.2g}" for name, t, e in points)
        return rendered(figure, "precision", f"{caveat.beside('Time')} against relative error: {words}.")


def model_progress(curve: Curve, untuned_s: float, caveat: Caveat = NONE) -> Picture:
    """The sum of the kernels' times against trials and against seconds."""
    scale, unit = units.time_unit(min(curve.values))
    log = max(curve.values) / min(curve.values) > _LOG_FROM
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
        panels = figure.subplots(2, 1, sharey=True)
        for axes, xs, label in (
            (panels[0], curve.trials, "trials of the run"),
            (panels[1], curve.seconds, "seconds since the first trial"),
        ):
            ys = [value / scale for value in curve.values]
            axes.axhline(untuned_s / scale, color=UNTUNED_COLOUR, linewidth=1.6)
            axes.plot(xs, ys, color=TUNED_COLOUR, linewidth=2.8, drawstyle="steps-post")
            axes.annotate(units.seconds(curve.values[-1]), (xs[-1], ys[-1]), (6, 0), textcoords="offset points",
                          color=TUNED_COLOUR, weight="bold", va="center", annotation_clip=False)  # fmt: skip
            if log:
                axes.set_yscale("log")
                axes.set_ylim(min(ys) / 1.5, untuned_s / scale * 2)
            else:
                axes.set_ylim(0, untuned_s / scale * 1.15)
            axes.annotate(f"untuned TVM, {units.seconds(untuned_s)}", (1, untuned_s / scale), (0, 5),
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          ha="right", color="#666666")  # fmt: skip
            plain_ticks(axes.yaxis, log)
            _finish_panel(axes, xs, label)
        details = ", ".join(filter(None, [unit, caveat.words, "log scale" if log else ""]))
        panels[0].set_title(f"time of all kernels, best so far ({details})", pad=14)
        first, last = units.seconds(untuned_s), units.seconds(curve.values[-1])
        alt = f"{caveat.beside('Time of all kernels')}, summed: {first} untuned, {last} in the end."
        return rendered(figure, "search_model", alt)


def task_progress(search: SearchCurves, kernels: Sequence[Kernel]) -> Picture | None:
    """Speed of every task, relative to its final best, against its own trials and against seconds."""
    drawn = [kernel for kernel in kernels if kernel.rank in search.tasks]
    if not drawn:
        return None
    colours = {kernel.rank: colour for kernel, colour in zip(drawn, _TASK_COLOURS, strict=False)}
    by_trial = {k.rank: search.tasks[k.rank].trials for k in drawn}
    by_second = {k.rank: search.tasks[k.rank].seconds for k in drawn}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 8.4), layout="constrained")
        panels = figure.subplots(2, 1, sharey=True)
        _task_panel(panels[0], search, by_trial, colours, "trials of the task")
        _task_panel(panels[1], search, by_second, colours, "seconds since the first trial")
        panels[0].set_title("speed of each kernel, % of the best it reached", pad=14)
        heads = [panels[0].plot([], [], color=colour, linewidth=4)[0] for colour in colours.values()]
        labels = [f"#{k.rank} {drawable(k.name, 44)}" for k in drawn if k.rank in colours]
        if len(drawn) > len(colours):
            heads.append(panels[0].plot([], [], color=FAINT, linewidth=4)[0])
            labels.append(f"the other {len(drawn) - len(colours)}")
        figure.legend(heads, labels, loc="outside lower left", frameon=False, fontsize=12, handlelength=1.2)
        alt = f"Best-so-far speed of {len(drawn)} kernels against trials and seconds."
        return rendered(figure, "search_tasks", alt)


def _task_panel(
    axes: Axes, search: SearchCurves, xs: Mapping[int, Sequence[float]], colours: Mapping[int, str], label: str
) -> None:
    """One line a task; `xs` and `colours` by rank, those without a colour of their own faint and behind."""
    for rank in reversed(list(xs)):
        ys = [100 * y for y in search.tasks[rank].values]
        colour, width = colours.get(rank, FAINT), 2.4 if rank in colours else 1.6
        axes.plot(xs[rank], ys, color=colour, linewidth=width, drawstyle="steps-post")
    axes.set_ylim(0, 104)
    _finish_panel(axes, max(xs.values(), key=lambda x: x[-1]), label)


def _finish_panel(axes: Axes, xs: Sequence[float], label: str) -> None:
    axes.set_xlabel(label, fontsize=13)
    axes.set_xlim(0, max(xs[-1], 1e-3))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=xs[-1] >= 6))
    axes.grid(axis="y", color="#EEEEEE", linewidth=1)
    axes.set_axisbelow(True)


def plain_ticks(axis: Any, log: bool) -> None:
    """Numbers as people write them; on a log axis 1-2-5 within two decades, else the decades."""
    if log:
        low, high = axis.get_view_interval()
        decades = math.log10(high / low)
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.2 else (1.0,), numticks=12))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}" if value < 1e6 else f"{value:.0e}"))


def ladder(told: Mapping[str, Any]) -> Picture | None:
    """A kernel's rungs as bars, from the unscheduled program down to the winner. None without times."""
    rungs = [rung for rung in told["rungs"] if rung["seconds"]]
    if not rungs:
        return None
    caveat = Caveat.from_json(told.get("caveat"))
    unit_s, unit = units.time_unit(min(rung["seconds"] for rung in rungs))
    times = [rung["seconds"] / unit_s for rung in rungs]
    bound = (told["lower_bound_s"] or 0.0) / unit_s
    least = min([*times, *([bound] if bound else [])])
    log = max(times) / least > _LOG_FROM
    left = 10 ** math.floor(math.log10(least) - 0.1) if log else 0.0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.7 + 0.46 * len(rungs)), layout="constrained")
        axes = figure.subplots()
        colours = [UNTUNED_COLOUR, *[BASELINE_COLOUR] * (len(rungs) - 2), TUNED_COLOUR][-len(rungs) :]
        axes.barh(range(len(rungs)), [t - left for t in times], left=left, height=0.64, color=colours)
        for row, (rung, time) in enumerate(zip(rungs, times, strict=True)):
            gain = f"  ×{times[row - 1] / time:.2f}" if row else ""
            axes.annotate(f"{units.duration(rung['seconds'])}{gain}", (time, row), (6, 0),
                          textcoords="offset points", va="center", fontsize=12)  # fmt: skip
            if rung["predicted_s"]:
                predicted = rung["predicted_s"] / unit_s
                axes.plot(predicted, row, marker="D", color="white", markeredgecolor=INK, markersize=7)
        if bound:
            axes.axvline(bound, color=INK, linestyle="--", linewidth=1.4)
        axes.set_yticks(range(len(rungs)), [drawable(rung["title"]) for rung in rungs], fontsize=12)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        if log:
            axes.set_xscale("log")
            axes.set_xlim(left, max(times) * (max(times) / left) ** 0.3)
        else:
            axes.set_xlim(0, max(times) * 1.4)
        plain_ticks(axes.xaxis, log)
        axes.set_title(drawable(told["name"], 60), loc="left")
        marks = [caveat.beside(f"{unit} a call{', log scale' if log else ''}")]
        marks += ["dashed: lower bound"] if bound else []
        marks += ["diamond: predicted"] if any(rung["predicted_s"] for rung in rungs) else []
        figure.supxlabel("; ".join(marks), fontsize=12)
        words = ", ".join(f"{rung['title']} {units.duration(rung['seconds'])}" for rung in rungs)
        steps = caveat.beside(f"Steps of {told['name']}")
        return rendered(figure, f"ladder_{told['task']}", f"{steps}: {words}.")


def rendered(figure: Figure, name: str, alt: str) -> Picture:
    """A figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(name, alt, buffer.getvalue())
