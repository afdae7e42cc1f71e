"""Benchmark entries that devices share: the run in float64, and what a model that was made narrower stands beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.measure.entries import EXACT, EXACT_WHOLE, EntrySpec
from tuner.models import ImportedModel
from tuner.precisions import FLOAT32, INT8, float_of_unit


@dataclass(frozen=True)
class Origin:
    """The model that baselines are given where nothing is made narrower for them: its spec, and in what they compute it
    ("" where the model says so). `whole`: it is another than the tuned one, which was quantized. `floats`: what layers
    of the tuned one have in place of float32; "" where nothing."""

    model_spec: Mapping[str, Any]
    precision: str = ""
    whole: bool = False
    floats: str = ""


def origin_of(model: ImportedModel) -> Origin:
    """A model as its author made it."""
    reduced = model.reduced
    if reduced is None:
        return Origin(model.model_spec)
    as_it_came = reduced.precision == INT8 and reduced.whole is None
    spec = model.model_spec if reduced.whole is None else reduced.whole
    return Origin(spec, INT8 if as_it_came else FLOAT32, reduced.whole is not None, float_of_unit(reduced.unit))


def exact_entries(model: ImportedModel, threads: int) -> list[EntrySpec]:
    """The run in float64, and that of the model as it was before it was quantized."""
    settings = {"threads": threads, "provider": "tuner.baselines.exact_nodes:module"}
    reduced = model.reduced
    unit = {} if reduced is None or not reduced.unit else {"unit": reduced.unit}
    service = "tuner.baselines.exact:ExactWorker"
    entries = [EntrySpec(EXACT, service, {"model_spec": dict(model.model_spec), **settings, **unit})]
    if reduced is not None and reduced.whole is not None:
        entries.append(EntrySpec(EXACT_WHOLE, service, {"model_spec": dict(reduced.whole), **settings}))
    return entries
