"""Curves of searches: best so far against seconds, a panel for each task; PyTorch's best form as a line across."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.search.results import TaskResults, searchers, torch_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4
_COLORS = ("guided", "guided, cold", "random", "tpe", "metaschedule")
"""Searchers in the order of matplotlib's colours; all others share the next one."""


def draw(results: Mapping[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    tasks = results["tasks"]
    columns = min(_COLUMNS, len(tasks))
    lines = -(-len(tasks) // columns)
    size = (3.6 * columns, 2.8 * lines)
    figure, panels = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    for panel in panels.flat[len(tasks) :]:
        panel.set_axis_off()
    for panel, (task, task_results) in zip(panels.flat, tasks.items(), strict=False):
        _draw_task(panel, task, task_results)
    labels = [panel.get_legend_handles_labels() for panel in panels.flat]
    lines_by_label = {label: line for handles, names in labels for line, label in zip(handles, names, strict=True)}
    figure.legend(lines_by_label.values(), lines_by_label.keys(), loc="outside lower right", ncols=len(lines_by_label))
    figure.supxlabel("seconds of search")
    figure.supylabel("best so far, screened, ms")
    figure.savefig(path, dpi=110)


def _draw_task(panel: Axes, task: str, task_results: TaskResults) -> None:
    searches, pytorch_s = searchers(task_results), torch_s(task_results)
    for searcher, search in sorted(searches.items()):
        points = [(second, best_s) for _, second, best_s in search["curve"]]
        points.append((search["seconds"], points[-1][1]))
        seconds, best = zip(*points, strict=True)
        color = _COLORS.index(searcher) if searcher in _COLORS else len(_COLORS)
        panel.step(seconds, [1e3 * s for s in best], where="post", label=searcher, color=f"C{color}")
    if pytorch_s is not None:
        panel.axhline(1e3 * pytorch_s, color="0.5", linestyle=":", label="PyTorch")
    lowest = min([search["curve"][-1][2] for search in searches.values()] + ([pytorch_s] if pytorch_s else []))
    panel.set_title(task)
    panel.set_xlim(0, max(search["seconds"] for search in searches.values()))
    panel.set_ylim(0.8e3 * lowest, 4e3 * lowest)
