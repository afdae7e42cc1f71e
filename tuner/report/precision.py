"""In what a model's layers compute, and what that costs: the section of a run that asked for a precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.report import units
from tuner.report.tables import Table

_SHOWN = 200
"""Layers that the table has."""


def stated(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the summary has of it; nothing where neither a precision nor an accuracy was asked for."""
    return summary.get("precision") or {}


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """How many layers compute in what, how far the outputs are off, and whether the accuracy is kept."""
    known = stated(summary)
    counts = Counter(layer["precision"] for layer in known.get("layers", ()))
    told = [f"{count} in {name}" for name, count in counts.most_common()]
    text = [f"Asked for: {known['asked']}. Layers: {', '.join(told)}." if told else f"Asked for: {known['asked']}."]
    quality = known.get("quality")
    if not quality or not quality["samples"]:
        return [*text, "How good the outputs are could not be told."]
    text += [
        f"Output {index}: relative error {_digits(error['relative'])}, largest error {_digits(error['largest'])}, "
        f"cosine {_digits(error['cosine'], 6)} against float64, over {quality['samples']} samples."
        for index, error in enumerate(quality["errors"])
    ]
    if quality["agreement"] is not None:
        text.append(f"The top class is that of float64 in {units.percent(quality['agreement'])} of all rows.")
    return [*text, *bound_sentences(quality)]


def bound_sentences(quality: Mapping[str, Any]) -> list[str]:
    """Whether the accuracy that was asked for is kept; nothing where none was."""
    if quality["bound"] is None:
        return []
    kept = "kept" if quality["met"] else "MISSED, so the model is not exported"
    score = units.MISSING if quality["score"] is None else f"{quality['score']:.9g}"
    where = quality["data"] or "the inputs of the run"
    return [f"The accuracy is {kept}: {quality['metric']} is {score} on {where}, the bound is {quality['bound']:.9g}."]


def table(summary: Mapping[str, Any]) -> Table | None:
    """One row a layer: what it computes in, and what narrower operands cost it by itself."""
    layers = stated(summary).get("layers", ())[:_SHOWN]
    if not layers:
        return None
    rows = [(layer["name"], layer["precision"], _digits(layer["error"])) for layer in layers]
    return Table(("layer", "computes in", "its own error"), tuple(rows), frozenset({0, 1}))


def points(summary: Mapping[str, Any], entries: Sequence[Any]) -> list[tuple[str, float, float]]:
    """(name, seconds, relative error against float64) of each entry that has both."""
    errors = stated(summary).get("errors", {})
    return [
        (entry.name, entry.median_s, errors[entry.key])
        for entry in entries
        if entry.median_s is not None and errors.get(entry.key)
    ]


def mixes(summary: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(predicted seconds, relative error) of the mixes that `auto` looked at."""
    return [(mix["seconds"], mix["error"]) for mix in stated(summary).get("mixes", ()) if mix["error"]]


def _digits(value: float | None, count: int = 3) -> str:
    return units.MISSING if value is None else f"{value:.{count}g}"
