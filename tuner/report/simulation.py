"""The picture of a simulation: how close to the optimum each strategy is after how many evaluations."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tuner.report.figures import (
    FAINT,
    INK,
    STYLE,
    TUNED_COLOUR,
    UNTUNED_COLOUR,
    Picture,
    drawable,
    plain_ticks,
    rendered,
)

Curves = Mapping[str, NDArray[np.float64]]
"""Optimum over best so far after each evaluation, by strategy."""

_COLOURS = (TUNED_COLOUR, "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#444444")

RANDOM = "random search (exact)"
"""The name under which the expectation of random search is drawn, in grey."""


def curves(panels: Mapping[str, Curves]) -> Picture:
    """One panel a space, and in it one line a strategy, and `RANDOM`."""
    columns = 1 if len(panels) == 1 else 2
    lines = -(-len(panels) // columns)
    with matplotlib.rc_context({**STYLE, "font.size": 11, "axes.titlesize": 12}):
        figure = Figure(figsize=(7.2 if columns == 1 else 8.4, 0.6 + 2.9 * lines), layout="constrained")
        all_axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (name, strategies) in zip(all_axes, panels.items(), strict=False):
            _panel(axes, name, strategies)
        for axes in all_axes[len(panels) :]:
            axes.set_visible(False)
        handles, labels = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        figure.supxlabel("configurations evaluated (log scale)", fontsize=12)
        figure.supylabel("speed of the best so far, optimum = 1", fontsize=12)
        words = "; ".join(f"{name}: {_in_words(strategies)}" for name, strategies in panels.items())
        return rendered(figure, "simulation", f"After all evaluations, {words}.")


def _panel(axes: Axes, name: str, strategies: Curves) -> None:
    colours = iter(_COLOURS * len(strategies))
    for strategy, values in strategies.items():
        grey = strategy == RANDOM
        axes.plot(np.arange(1, len(values) + 1), values, color=UNTUNED_COLOUR if grey else next(colours),
                  linewidth=1.6 if grey else 2.4, label=strategy)  # fmt: skip
    axes.axhline(1.0, color=INK, linewidth=0.8)
    axes.set_xscale("log")
    evaluations = max(map(len, strategies.values()))
    first = min(5, evaluations)
    axes.set_xlim(first, max(evaluations, first + 1))
    lowest = min(float(values[min(first, len(values)) - 1]) for values in strategies.values())
    axes.set_ylim(lowest - 0.05 * (1 - lowest) - 0.005, 1.02)
    plain_ticks(axes.xaxis, log=True)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_title(drawable(name, 40))


def _in_words(strategies: Curves) -> str:
    return ", ".join(f"{strategy} {values[-1]:.3f} of the optimum" for strategy, values in strategies.items())
