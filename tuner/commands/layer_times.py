"""How long each layer takes by itself, in each precision: a short search for each that is not like another."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner import environment
from tuner.commands.prepare import RunContext, layouts_of, with_algorithms
from tuner.devices import resolve

if TYPE_CHECKING:
    from tuner.graph import Choices, GraphConfig
    from tuner.store import SqlStore

SHARE = 0.25
"""Of the search's budget, what timing layers by themselves may take, all precisions together."""

LEAST_S = 2.0
"""For one layer in one precision, whatever the budget: a few candidates are built and measured in it."""


def layer_times(
    run: RunContext, store: SqlStore, calls: Sequence[Any], precisions: Sequence[str]
) -> list[Mapping[str, float]]:
    """The seconds of one call of each layer (`tuner.graph.single_layers`), by precision: those of the best kernel that
    a short search finds. A precision in which a layer could not be timed is left out."""
    from tuner.graph.single_layers import alike

    first = alike(calls)
    distinct = sorted(set(first))
    run.work.mkdir(parents=True, exist_ok=True)
    device = resolve.kind_of(run.target).open(run.opening())
    known: dict[int, dict[str, float]] = {number: {} for number in distinct}
    try:
        _ = device.ceilings  # measured before the first clock starts
        for precision in precisions:
            run.progress.phase(f"timing {len(distinct)} layers by themselves in {precision}")
            share_s = max(SHARE * run.config.search.time_budget_s / len(precisions), LEAST_S * len(distinct))
            found = _searched(run, store, device, [calls[number] for number in distinct], precision, share_s)
            for number, seconds in zip(distinct, found, strict=True):
                if seconds is not None:
                    known[number][precision] = seconds
    finally:
        device.close()
        shutil.rmtree(run.work, ignore_errors=True)
    return [known[number] for number in first]


def _searched(
    run: RunContext, store: SqlStore, device: Any, calls: Sequence[Any], precision: str, share_s: float
) -> list[float | None]:
    from tuner.graph.single_layers import kernels_of, single_layers
    from tuner.tuning.context import SearchContext, searched_passes
    from tuner.tuning.tune import tune_model

    captured = environment.capture()
    environment_id = environment.environment_id(captured)
    store.add_environment(environment_id, environment.stable_facts(captured))
    search = dataclasses.replace(run.config.search, time_budget_s=share_s)
    context = SearchContext(
        search, searched_passes(run.config.passes), run.folder.name, run.scope, run.work, run.progress,
        run.interrupted, [], environment_id, captured["git_revision"] or "",
    )  # fmt: skip
    module = single_layers(calls, precision, resolve.kind_of(run.target).data_bytes)
    choices = _choices(run, module)
    result = tune_model([choices], device, store, context, lambda record: False)
    best = {key: session.best_s or session.untuned_s for key, session in result.sessions.items()}
    return [best.get(key) for key in kernels_of(result.lowered)]


def _choices(run: RunContext, module: Any) -> Choices:
    from tuner.graph import GraphConfig, lower

    target = run.target.tvm()

    def lowered_as(graph: GraphConfig) -> Any:
        return lower(module, graph, target)

    layout, *_ = layouts_of(run.config, run.target)
    return with_algorithms(run.config, lowered_as(GraphConfig(layout)), lowered_as)
