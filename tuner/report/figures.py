"""The pictures of the report, as PNG bytes. The only place that imports matplotlib.

One accent colour is always our tuned result, untuned TVM is always grey, rivals are blue (Okabe and
Ito's colours, which colour-blind readers can tell apart). Names are drawn as they are: no markup.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tuner.report import units
from tuner.report.curves import Curve, Progress
from tuner.report.tables import Kernel

TUNED = "#D55E00"
UNTUNED = "#8C8C8C"
RIVAL = "#0072B2"
INK = "#222222"
FAINT = "#D9D9D9"
_TASK_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#444444")

_WIDTH = 7.2  # inches; at 160 dots an inch the 14-point text stays readable when a phone shrinks the picture
_STYLE: Any = {
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

Bar = tuple[str, float | None, Sequence[float] | None]
"""Name, seconds, 95 % interval; the first bar is the tuned model."""


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


def end_to_end(bars: Sequence[Bar]) -> Picture | None:
    """Horizontal bars, fastest on top, with 95 % intervals. None when there is nothing to draw."""
    tuned_name = bars[0][0] if bars else ""
    drawn = sorted(((n, v, i) for n, v, i in bars if v is not None), key=lambda bar: bar[1])
    if not drawn:
        return None
    values = [bar[1] for bar in drawn]
    log = values[-1] / values[0] > _LOG_FROM
    scale, unit = units.time_unit(values[0] if log else values[-1])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 1.1 + 0.62 * len(drawn)), layout="constrained")
        axes = figure.subplots()
        left = 10 ** math.floor(math.log10(values[0] / scale) - 0.3) if log else 0.0
        for row, (name, value, interval) in enumerate(drawn):
            colour = TUNED if name == tuned_name else UNTUNED if name == units.rival_name("untuned") else RIVAL
            axes.barh(row, value / scale - left, left=left, height=0.62, color=colour)
            end = value
            if interval is not None:
                reach = [[max(0.0, value - interval[0]) / scale], [max(0.0, interval[1] - value) / scale]]
                axes.errorbar(value / scale, row, xerr=reach, color=INK, capsize=5, linewidth=1.6)
                end = max(value, interval[1])
            weight = "bold" if name == tuned_name else "normal"
            axes.annotate(units.seconds(value), (end / scale, row), (8, 0), textcoords="offset points",
                          va="center", weight=weight)  # fmt: skip
        axes.set_yticks(range(len(drawn)), [drawable(bar[0]) for bar in drawn])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        if log:
            axes.set_xscale("log")
            axes.set_xlim(left, values[-1] / scale * (values[-1] / scale / left) ** 0.25)
        else:
            axes.set_xlim(0, max(b[2][1] if b[2] else b[1] for b in drawn) / scale * 1.22)
        _plain_ticks(axes.xaxis, log)
        note = "log scale" if log else "shorter is better"
        figure.supxlabel(f"{unit} for one inference, median and 95 % interval ({note})", fontsize=12.5)
        words = ", ".join(f"{name} {units.seconds(value, interval)}" for name, value, interval in drawn)
        return _picture(figure, "end_to_end", f"End-to-end time: {words}.")


def model_progress(curve: Curve, untuned_s: float) -> Picture:
    """Estimated model time against trials and against seconds."""
    scale, unit = units.time_unit(min(curve.values))
    log = max(curve.values) / min(curve.values) > _LOG_FROM
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 7.0), layout="constrained")
        panels = figure.subplots(2, 1, sharey=True)
        for axes, xs, label in _panels(panels, curve):
            ys = [value / scale for value in curve.values]
            axes.axhline(untuned_s / scale, color=UNTUNED, linewidth=1.6)
            axes.plot(xs, ys, color=TUNED, linewidth=2.8, drawstyle="steps-post")
            axes.annotate(units.seconds(curve.values[-1]), (xs[-1], ys[-1]), (6, 0), textcoords="offset points",
                          color=TUNED, weight="bold", va="center", annotation_clip=False)  # fmt: skip
            if log:
                axes.set_yscale("log")
                axes.set_ylim(min(ys) / 1.5, untuned_s / scale * 2)
            else:
                axes.set_ylim(0, untuned_s / scale * 1.15)
            axes.annotate(f"untuned TVM, {units.seconds(untuned_s)}", (1, untuned_s / scale), (0, 5),
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          ha="right", color="#666666")  # fmt: skip
            _plain_ticks(axes.yaxis, log)
            _finish_panel(axes, xs, label)
        panels[0].set_title(f"time of all kernels, best so far ({unit}{', log scale' if log else ''})", pad=14)
        first, last = units.seconds(untuned_s), units.seconds(curve.values[-1])
        alt = f"Estimated time of all kernels: {first} untuned, {last} in the end."
        return _picture(figure, "search_model", alt)


def task_progress(progress: Progress, kernels: Sequence[Kernel]) -> Picture | None:
    """Speed of every task, as a part of its final best, against its own trials and against seconds."""
    drawn = [kernel for kernel in kernels if kernel.rank in progress.tasks]
    if not drawn:
        return None
    named = {kernel.rank: colour for kernel, colour in zip(drawn, _TASK_COLOURS, strict=False)}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 8.4), layout="constrained")
        panels = figure.subplots(2, 1, sharey=True)
        for panel, label in enumerate(("trials of the task", "seconds since the first trial")):
            axes = panels[panel]
            longest: Sequence[float] = (0.0,)
            for kernel in reversed(drawn):
                curve = progress.tasks[kernel.rank]
                xs: Sequence[float] = curve.seconds if panel else curve.trials
                longest = xs if xs[-1] >= longest[-1] else longest
                colour, width = named.get(kernel.rank, FAINT), 2.4 if kernel.rank in named else 1.6
                axes.plot(xs, [100 * y for y in curve.values], color=colour, linewidth=width, drawstyle="steps-post")
            axes.set_ylim(0, 104)
            _finish_panel(axes, longest, label)
        panels[0].set_title("speed of each kernel, % of the best it reached", pad=14)
        heads = [axes.plot([], [], color=colour, linewidth=4)[0] for colour in named.values()]
        labels = [f"#{k.rank} {drawable(k.name, 44)}" for k in drawn if k.rank in named]
        if len(drawn) > len(named):
            heads.append(axes.plot([], [], color=FAINT, linewidth=4)[0])
            labels.append(f"the other {len(drawn) - len(named)}")
        figure.legend(heads, labels, loc="outside lower left", frameon=False, fontsize=12, handlelength=1.2)
        return _picture(
            figure, "search_tasks", f"Best-so-far speed of {len(drawn)} kernels against trials and seconds."
        )


def roofline(kernels: Sequence[Kernel], peak: float, bandwidth: float) -> Picture | None:
    """GFLOP/s against flops per byte under the ceilings measured on this machine (flops/s and bytes/s)."""
    drawn = [k for k in kernels if k.used_s and k.data["flops"] and k.data["bytes"]]
    if not drawn:
        return None
    xs = [k.data["flops"] / k.data["bytes"] for k in drawn]
    tuned = [k.data["flops"] / k.used_s / 1e9 for k in drawn if k.used_s]
    untuned = [k.data["flops"] / k.data["untuned_s"] / 1e9 if k.data["untuned_s"] else None for k in drawn]
    ridge = peak / bandwidth
    lowest, highest = min(*xs, ridge / 20) / 2.2, max(*xs, ridge * 3) * 1.6
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 5.8), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot([lowest, ridge, highest], [lowest * bandwidth / 1e9, peak / 1e9, peak / 1e9], color=INK, linewidth=2)
        for x, after, before in zip(xs, tuned, untuned, strict=True):
            if before is not None:
                axes.plot([x, x], [before, after], color=FAINT, linewidth=1.4, zorder=1)
                axes.scatter([x], [before], s=45, facecolor="white", edgecolor=UNTUNED, linewidth=1.6, zorder=2)
        sizes = [50 + 500 * (k.share or 0.0) for k in drawn]
        axes.scatter(xs, tuned, s=sizes, color=TUNED, edgecolor="white", linewidth=0.8, zorder=3)
        axes.set_xlim(lowest, highest)
        floor = min([*tuned, *(b for b in untuned if b is not None), lowest * bandwidth / 1e9])
        axes.set_ylim(floor / 1.8, peak / 1e9 * 2.6)
        axes.annotate(f"measured peak {units.digits(peak / 1e9)} GFLOP/s", (highest, peak / 1e9), (0, 6),
                      textcoords="offset points", ha="right")  # fmt: skip
        _plain_ticks(axes.xaxis, True)
        _plain_ticks(axes.yaxis, True)
        axes.set_xlabel("flops per byte of least traffic")
        axes.set_ylabel("GFLOP/s")
        axes.scatter([], [], s=90, color=TUNED, label="tuned (area: share of time)")
        axes.scatter([], [], s=45, facecolor="white", edgecolor=UNTUNED, linewidth=1.6, label="untuned")
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=12, handletextpad=0.3)
        figure.draw_without_rendering()  # from here on, data can be placed in points
        _label_slope(axes, lowest, ridge, bandwidth)
        others = [(x, y) for x, y in zip(xs, untuned, strict=True) if y is not None]
        _label_points(axes, [(f"#{k.rank}", x, y) for k, x, y in zip(drawn, xs, tuned, strict=True)], others)
        return _picture(figure, "roofline", f"Roofline of {len(drawn)} kernels under the measured ceilings.")


def _label_slope(axes: Axes, lowest: float, ridge: float, bandwidth: float) -> None:
    """Write the bandwidth along its line."""
    (x0, y0), (x1, y1) = axes.transData.transform([(x, x * bandwidth / 1e9) for x in (lowest, ridge)])
    axes.annotate(f"measured bandwidth {units.digits(bandwidth / 1e9)} GB/s",
                  (math.sqrt(lowest * ridge), math.sqrt(lowest * ridge) * bandwidth / 1e9), (-5, 7),
                  textcoords="offset points", ha="center", va="center", rotation_mode="anchor",
                  rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)))  # fmt: skip


def _label_points(
    axes: Axes, labels: Sequence[tuple[str, float, float]], others: Sequence[tuple[float, float]]
) -> None:
    """Put each label beside its point, where neither a label nor a point stands; leave it out if all is taken."""
    per_point = axes.figure.dpi / 72
    centres = [axes.transData.transform((x, y)) / per_point for _, x, y in labels]
    dots = [*centres, *(axes.transData.transform(xy) / per_point for xy in others)]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in dots]
    for (text, x, y), (px, py) in zip(labels, centres, strict=True):
        half = 4.5 * len(text)
        for dx, dy in ((half + 9, 0), (-half - 9, 0), (0, -18), (0, -33), (0, -48), (0, -63)):
            box = (px + dx - half, py + dy - 7, px + dx + half, py + dy + 7)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                taken.append(box)
                axes.annotate(text, (x, y), (dx, dy), textcoords="offset points", ha="center", va="center", fontsize=12,
                              zorder=1.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
                break


def _panels(panels: Any, curve: Curve) -> list[tuple[Axes, Sequence[float], str]]:
    return [
        (panels[0], curve.trials, "trials of the run"),
        (panels[1], curve.seconds, "seconds since the first trial"),
    ]


def _finish_panel(axes: Axes, xs: Sequence[float], label: str) -> None:
    axes.set_xlabel(label, fontsize=13)
    axes.set_xlim(0, max(xs[-1], 1e-3))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=xs[-1] >= 6))
    axes.grid(axis="y", color="#EEEEEE", linewidth=1)
    axes.set_axisbelow(True)


def _plain_ticks(axis: Any, log: bool) -> None:
    """Numbers as people write them; on a log axis 1-2-5 within two decades, else the decades."""
    if log:
        low, high = axis.get_view_interval()
        decades = math.log10(high / low)
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.2 else (1.0,), numticks=12))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}" if value < 1e6 else f"{value:.0e}"))


def _picture(figure: Figure, name: str, alt: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(name, alt, buffer.getvalue())
