"""Line charts as SVG, drawn here so that they show without scripts; the page's script reads values off them.

One unit of width is a night, so the pointer's place tells the night. Colours are classes of the style sheet: they are
legible on light and on dark pages.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

WIDTH, LEFT, RIGHT = 860, 76, 12
TOP, BOTTOM = 14, 26
_TICKS = 4
_LABELS = 5
_COLOURS = 8
"""Classes s0 to s7."""


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, and a value a night (NaN: none). `dashed`: of others, not of ours."""

    name: str
    values: Values
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart over nights. `labels`: the name of each night, for the axis. `form`: a value in words. `band`: lower and
    upper values that are within a threshold. `marks`: by place, what broke the series before that night; `accepted`: by
    place, why a change there was accepted. `cuts`: places before which no line is drawn through.
    """

    name: str
    title: str
    lines: Sequence[Line]
    form: Callable[[float], str]
    labels: Sequence[str] = ()
    band: tuple[Values, Values] | None = None
    marks: Mapping[int, str] = field(default_factory=dict)
    accepted: Mapping[int, str] = field(default_factory=dict)
    cuts: frozenset[int] = frozenset()
    height: int = 220
    width: int = WIDTH

    @property
    def kinds(self) -> list[str]:
        """The classes of each line, and of its key in the legend."""
        return [f"s{n % _COLOURS}{' dashed' if line.dashed else ''}" for n, line in enumerate(self.lines)]

    @property
    def nights(self) -> int:
        return max((len(line.values) for line in self.lines), default=0)

    def data(self) -> dict[str, Any]:
        """What the page's script shows under the pointer: names, and values in words."""
        return {"lines": [[line.name, [_words(v, self.form) for v in line.values.tolist()]] for line in self.lines]}


def _words(value: float, form: Callable[[float], str]) -> str | None:
    return None if math.isnan(value) else form(value)


def svg(chart: Chart) -> str:
    """The chart as one `svg` element, with a title for readers who do not see it."""
    low, high = _range(chart)
    place, right = _Place(chart.nights, chart.width, chart.height, low, high), chart.width - RIGHT
    parts = [
        f'<svg viewBox="0 0 {chart.width} {chart.height}" role="img" aria-label="{html.escape(_described(chart))}" '
        f'preserveAspectRatio="none" data-left="{LEFT}" data-right="{right}">'
    ]
    for words, tick in {chart.form(tick): tick for tick in _ticks(low, high)}.items():  # no two that read alike
        y = place.y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{right}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}">{html.escape(words)}</text>')
    for at in _labelled(len(chart.labels)):
        x, y = place.x(at), chart.height - 6
        parts.append(f'<text class="tick night" x="{x:.0f}" y="{y}">{html.escape(chart.labels[at])}</text>')
    if chart.band is not None:
        parts.append(_band(chart.band, place))
    for at, what in chart.marks.items():
        x = place.x(at) - place.step / 2
        drawn = f'<path class="break" d="M{x:.1f} {TOP}V{chart.height - BOTTOM}">'
        parts.append(f"{drawn}<title>{html.escape(what)}</title></path>")
    for line, kind in zip(chart.lines, chart.kinds, strict=True):
        parts.append(_line(line, kind, place, chart.cuts))
    for at, why in chart.accepted.items():
        parts.append(
            f'<path class="accepted" d="M{place.x(at):.1f} {chart.height - BOTTOM + 4}l5 9h-10z">'
            f"<title>accepted: {html.escape(why)}</title></path>"
        )
    return "".join([*parts, '<path class="cursor" d=""/></svg>'])


@dataclass(frozen=True)
class _Place:
    nights: int
    width: int
    height: int
    low: float
    high: float

    @property
    def step(self) -> float:
        return (self.width - LEFT - RIGHT) / max(self.nights, 1)

    def x(self, at: int) -> float:
        return LEFT + (at + 0.5) * self.step

    def y(self, value: float) -> int:
        return round(float(self.ys(np.array([value]))[0]))

    def ys(self, values: Values) -> Values:
        share = (values - self.low) / (self.high - self.low)
        inside = (self.height - BOTTOM) - share * (self.height - TOP - BOTTOM)
        return np.clip(inside, TOP - 6, self.height - BOTTOM + 6)


def _range(chart: Chart) -> tuple[float, float]:
    """Of all values but a few far ones: one broken night must not flatten a thousand others."""
    found = [line.values[~np.isnan(line.values)] for line in chart.lines]
    values = np.concatenate([*found, np.empty(0)])
    if chart.band is not None:
        values = np.concatenate([values, *(edge[~np.isnan(edge)] for edge in chart.band)])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.quantile(values, [0.005, 0.995]))
    low, high = min(low, *(float(f[-1]) for f in found if f.size)), max(high, *(float(f[-1]) for f in found if f.size))
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """Some round values between the two."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _labelled(nights: int) -> list[int]:
    """Which nights have their name below the axis."""
    count = min(nights, _LABELS)
    return sorted({round((n + 0.5) * nights / count - 0.5) for n in range(count)}) if nights else []


def _line(line: Line, kind: str, place: _Place, cuts: frozenset[int]) -> str:
    """Polylines between gaps and cuts; a lone night is a dot. Of nights in a row at one height only the ends count."""
    ys = place.ys(line.values)
    there = ~np.isnan(ys)
    path: list[str] = []
    start: int | None = None
    for at in range(len(ys) + 1):
        ends = at == len(ys) or not there[at] or at in cuts
        if start is not None and ends:
            path.append(_run(ys[start:at], start, place))
            start = None
        if start is None and at < len(ys) and there[at]:
            start = at
    if not path:
        return ""
    last = int(np.flatnonzero(there)[-1])
    path.append(_dot(place.x(last), float(ys[last])))
    return f'<path class="line {kind}" d="{"".join(path)}"/>'


def _run(ys: Values, start: int, place: _Place) -> str:
    rounded = np.rint(ys).astype(int)
    kept = np.ones(len(rounded), bool)
    if len(rounded) > 2:
        kept[1:-1] = (rounded[1:-1] != rounded[:-2]) | (rounded[1:-1] != rounded[2:])
    at = np.flatnonzero(kept)
    xs = np.rint(LEFT + (at + start + 0.5) * place.step).astype(int).tolist()
    points = [f"{x} {y}" for x, y in zip(xs, rounded[at].tolist(), strict=True)]
    return f"M{points[0]}L{' '.join(points[1:])}" if len(points) > 1 else _dot(xs[0], float(rounded[0]))


def _dot(x: float, y: float) -> str:
    return f"M{x - 2.5:.1f} {y:.0f}a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0"


def _band(band: tuple[Values, Values], place: _Place) -> str:
    """Rectangles a night wide, joined where the threshold stays."""
    lower, upper = (np.rint(np.nan_to_num(place.ys(edge), nan=-1)).astype(int) for edge in band)
    there = ~(np.isnan(band[0]) | np.isnan(band[1]))
    parts: list[str] = []
    at = 0
    while at < len(there):
        if not there[at]:
            at += 1
            continue
        end = at
        while end < len(there) and there[end] and lower[end] == lower[at] and upper[end] == upper[at]:
            end += 1
        x, width = LEFT + at * place.step, (end - at) * place.step
        parts.append(f"M{x:.1f} {upper[at]}h{width:.1f}V{lower[at]}h-{width:.1f}z")
        at = end
    return f'<path class="band" d="{"".join(parts)}"/>' if parts else ""


def _described(chart: Chart) -> str:
    words = []
    for line in chart.lines:
        values = line.values[~np.isnan(line.values)]
        if values.size:
            words.append(f"{line.name} {chart.form(float(values[-1]))}")
    return f"{chart.title}, {chart.nights} nights; last: {', '.join(words) or 'no values'}"


def sparkline(values: Values, width: int = 120, height: int = 26) -> str:
    """A small line without axes."""
    there = values[~np.isnan(values)]
    if not there.size:
        return ""
    low, high = float(there.min()), float(there.max())
    middle = (low + high) / 2
    span = max(high - low, 0.04 * abs(middle)) or 1.0
    ys = np.rint((height - 3) - (values - (middle - span / 2)) / span * (height - 6))
    step = (width - 4) / max(len(values) - 1, 1)
    path, pen = [], False
    for at, y in enumerate(ys.tolist()):
        if math.isnan(y):
            pen = False
            continue
        path.append(f"{'L' if pen else 'M'}{2 + at * step:.0f} {y:.0f}")
        pen = True
    drawn = "".join(path) + ("h.01" if len(path) == 1 else "")
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f'<path class="line s0" d="{drawn}"/></svg>'
    )
