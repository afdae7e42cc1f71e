"""The inputs of a model: those that the user has, else drawn from what the model's use of them allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.importers import data as stored_data
from tuner.importers.data_set import Wanted
from tuner.importers.use import Use, drawn, drawn_text, words
from tuner.models import InputSet, InputSpec
from tuner.protocols import Array

ModelSpec = Mapping[str, Any]

_TEXTS = ("some", "text")
"""What texts are drawn from where none stand in the model."""

DRAWN_SETS = 2
"""One to time and verify with, and one to verify with: a stale or constant output passes only once."""


def input_sets(specs: Sequence[InputSpec], model_spec: ModelSpec, seed: int) -> list[InputSet]:
    """Every set of `model.data` that has the model's shapes; without one, drawn ones. The first is that to time with.

    Each is in the order of `specs`, the model's inputs. `model_spec` is that of an imported model, in which the
    importer has written how each input is used.
    """
    given = _given(specs, model_spec)
    return given or [
        InputSet(f"inputs of seed {seed + index}", tuple(_drawn(specs, model_spec, seed + index)))
        for index in range(DRAWN_SETS)
    ]


def model_inputs(specs: Sequence[InputSpec], model_spec: ModelSpec, seed: int) -> list[Array]:
    """The first of `input_sets`."""
    given = _given(specs, model_spec)
    return list(given[0].arrays) if given else _drawn(specs, model_spec, seed)


def provenance(specs: Sequence[InputSpec], model_spec: ModelSpec, seed: int) -> dict[str, Any]:
    """Where the inputs of a run are from, for its summary: `sets` (their names), with `data` (path and SHA-256), or
    with `seeds` and `drawn` (how, by input, in words)."""
    sets = [one.name for one in input_sets(specs, model_spec, seed)]
    if _given(specs, model_spec):
        data = stored_data.read(model_spec["data"])
        return {"sets": sets, "data": {"path": data.path, "sha256": data.sha256}}
    uses = model_spec.get("uses", {})
    how = {
        spec.name: "texts" if spec.dtype == "string" else words(spec, Use.from_json(uses.get(spec.name, {})))
        for spec in specs
    }
    return {"sets": sets, "seeds": [seed + index for index in range(DRAWN_SETS)], "drawn": how}


def _given(specs: Sequence[InputSpec], model_spec: ModelSpec) -> list[InputSet]:
    """The sets of `model.data`."""
    if model_spec.get("data") is None:
        return []
    wanted = [Wanted(spec.name, spec.dtype, spec.shape) for spec in specs]
    aliases = {f"arg{index}": spec.name for index, spec in enumerate(specs)}
    return stored_data.fitted(stored_data.read(model_spec["data"]), wanted, model_spec, aliases)


def _drawn(specs: Sequence[InputSpec], model_spec: ModelSpec, seed: int) -> list[Array]:
    uses = model_spec.get("uses", {})
    texts = model_spec.get("texts") or _TEXTS
    return [
        drawn_text(spec, texts, seed)
        if spec.dtype == "string"
        else drawn(spec, Use.from_json(uses.get(spec.name, {})), seed)
        for spec in specs
    ]
