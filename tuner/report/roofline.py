"""The roofline picture of a run's kernels: what they reach, under what their device can do at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuner.caveats import MEASURED, NONE, Caveat
from tuner.report import figures, units
from tuner.report.tables import Kernel


@dataclass(frozen=True)
class _Point:
    """A kernel in the roofline: flops per byte, and GFLOP/s tuned and untuned."""

    label: str
    intensity: float
    tuned: float
    untuned: float | None
    share: float


def _points(kernels: Sequence[Kernel]) -> list[_Point]:
    points = []
    for kernel in kernels:
        flops, nbytes, untuned_s = kernel.data["flops"], kernel.data["bytes"], kernel.data["untuned_s"]
        if kernel.used_s and flops and nbytes:
            untuned = flops / untuned_s / 1e9 if untuned_s else None
            tuned = flops / kernel.used_s / 1e9
            points.append(_Point(f"#{kernel.rank}", flops / nbytes, tuned, untuned, kernel.share or 0.0))
    return points


def drawn(
    kernels: Sequence[Kernel], bandwidth: float, source: str = MEASURED, caveat: Caveat = NONE
) -> figures.Picture | None:
    """GFLOP/s against flops per byte under the bandwidth (bytes/s) and the peaks of what the kernels compute in; where
    these ceilings are from is their `source`, in a word."""
    points, peaks = _points(kernels), _peaks(kernels)
    if not points or not peaks:
        return None
    peak = max(peaks.values())
    ridge = peak / bandwidth
    lowest = min(*(p.intensity for p in points), ridge / 20) / 2.2
    highest = max(*(p.intensity for p in points), ridge * 3) * 1.6
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 5.8), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot([lowest, ridge], [lowest * bandwidth / 1e9, peak / 1e9], color=figures.INK, linewidth=2)
        for name, flops in peaks.items():
            axes.plot([flops / bandwidth, highest], [flops / 1e9] * 2, color=figures.INK, linewidth=2)
            axes.annotate(f"{source} peak of {name}, {units.digits(flops / 1e9)} GFLOP/s",
                          (highest, flops / 1e9), (0, 6), textcoords="offset points", ha="right")  # fmt: skip
        _scatter(axes, points)
        axes.set_xlim(lowest, highest)
        slowest = min(p.tuned if p.untuned is None else min(p.tuned, p.untuned) for p in points)
        axes.set_ylim(min(slowest, lowest * bandwidth / 1e9) / 1.8, peak / 1e9 * 2.6)
        figures.plain_ticks(axes.xaxis, True)
        figures.plain_ticks(axes.yaxis, True)
        axes.set_xlabel("arithmetic intensity, flops per byte of minimal memory traffic", fontsize=13)
        axes.set_ylabel(caveat.beside("GFLOP/s"))
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=12, handletextpad=0.3)
        figure.draw_without_rendering()  # from here on, data can be placed in points
        _label_slope(axes, lowest, ridge, bandwidth, source)
        _label_points(axes, points)
        shown = caveat.beside(f"{len(points)} kernels")
        return figures.rendered(figure, "roofline", f"Roofline of {shown} under the {source} ceilings.")


def _peaks(kernels: Sequence[Kernel]) -> dict[str, float]:
    """The peaks (flop/s) that the kernels with flops are held against, by name; those that are the same under one."""
    peaks = dict.fromkeys(kernel.peak for kernel in kernels if kernel.peak is not None and kernel.data["flops"])
    names: dict[float, list[str]] = {}
    for peak in peaks:
        names.setdefault(peak.flops_per_s, []).append(peak.name)
    return {" and ".join(of_peak): flops for flops, of_peak in names.items()}


def _scatter(axes: Axes, points: Sequence[_Point]) -> None:
    """Tuned kernels as discs, untuned ones as rings, a line from one to the other; and the legend's entries."""
    ring: dict[str, Any] = {"s": 45, "facecolor": "white", "edgecolor": figures.UNTUNED_COLOUR, "linewidth": 1.6}
    for point in points:
        if point.untuned is not None:
            x = [point.intensity]
            axes.plot(x * 2, [point.untuned, point.tuned], color=figures.FAINT, linewidth=1.4, zorder=1)
            axes.scatter(x, [point.untuned], zorder=2, **ring)
    sizes = [50 + 500 * point.share for point in points]
    axes.scatter([p.intensity for p in points], [p.tuned for p in points], s=sizes, color=figures.TUNED_COLOUR,
                 edgecolor="white", linewidth=0.8, zorder=3)  # fmt: skip
    axes.scatter([], [], s=90, color=figures.TUNED_COLOUR, label="tuned (area: share of time)")
    axes.scatter([], [], label="untuned", **ring)


def _label_slope(axes: Axes, lowest: float, ridge: float, bandwidth: float, source: str) -> None:
    """Write the bandwidth along its line."""
    (x0, y0), (x1, y1) = axes.transData.transform([(x, x * bandwidth / 1e9) for x in (lowest, ridge)])
    axes.annotate(f"{source} bandwidth {units.digits(bandwidth / 1e9)} GB/s",
                  (math.sqrt(lowest * ridge), math.sqrt(lowest * ridge) * bandwidth / 1e9), (-5, 7),
                  textcoords="offset points", ha="center", va="center", rotation_mode="anchor",
                  rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)))  # fmt: skip


def _label_points(axes: Axes, points: Sequence[_Point]) -> None:
    """Put each label beside its point, where neither a label nor a point stands; leave it out if all is taken."""
    per_point = axes.figure.dpi / 72
    centres = [axes.transData.transform((p.intensity, p.tuned)) / per_point for p in points]
    rings = [(p.intensity, p.untuned) for p in points if p.untuned is not None]
    dots = [*centres, *(axes.transData.transform(ring) / per_point for ring in rings)]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in dots]
    for point, (px, py) in zip(points, centres, strict=True):
        half = 4.5 * len(point.label)
        for dx, dy in ((half + 9, 0), (-half - 9, 0), (0, -18), (0, -33), (0, -48), (0, -63)):
            box = (px + dx - half, py + dy - 7, px + dx + half, py + dy + 7)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                taken.append(box)
                axes.annotate(point.label, (point.intensity, point.tuned), (dx, dy), textcoords="offset points",
                              ha="center", va="center", fontsize=12, zorder=1.5,
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
                break
