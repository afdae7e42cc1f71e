"""The shapes of an ONNX graph's inputs: what is static stays, what is dynamic is fixed by name or by input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tuner.errors import ModelError
from tuner.schema import did_you_mean

Extent = int | str | None
"""As stored: a number, the name of a symbol, or None."""

_BATCH = re.compile(r"n|b|bs|.*batch.*", re.IGNORECASE)
"""Names of symbols that plainly are the batch."""

_GENERATED = re.compile(r"-1|\?|s\d+|unk__\d+|(p2o\.)?DynamicDimension\.\d+")
"""Names that exporters (of TensorFlow, Paddle and PyTorch) give to extents that have none."""


def fixed_shapes(
    stored: Mapping[str, Sequence[Extent]],
    source: str,
    batch: int | None,
    inputs: Mapping[str, Sequence[int]],
    dims: Mapping[str, int],
) -> dict[str, tuple[int, ...]]:
    """The shape of every input in `stored`.

    A shape in `inputs` stands. A symbol has the extent of `dims`, or that of an input in `inputs`, everywhere; the
    batch's symbol else has `batch`, or 1. A static leading extent is kept, unless `batch` is given and the extent is
    that of the first input. Raises ModelError for names that the model has not, for contradictions, and for what
    remains dynamic.
    """
    symbols = _symbols(stored, source, inputs, dims)
    leading = next((list(shape[:1]) for shape in stored.values()), [])
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in stored.items():
        if name in inputs:
            shapes[name] = tuple(inputs[name])
            continue
        extents = [symbols.get(extent, extent) if isinstance(extent, str) else extent for extent in shape]
        extents = [_or_batch(extent, batch) for extent in extents]
        rest = extents[1:]
        if (
            extents
            and _is_unnamed(extents[0])
            and rest
            and None not in rest
            and not any(isinstance(e, str) for e in rest)
        ):
            extents[0] = batch or 1
        elif batch is not None and shape and isinstance(shape[0], int) and list(shape[:1]) == leading:
            extents[0] = batch
        known = tuple(extent for extent in extents if isinstance(extent, int))
        if len(known) != len(shape):
            raise ModelError(
                source, f"input {name!r} has the dynamic shape {[e or '?' for e in shape]}", _line(name, extents)
            )
        shapes[name] = known
    return shapes


def _is_unnamed(extent: Extent) -> bool:
    return extent is None or (isinstance(extent, str) and _GENERATED.fullmatch(extent) is not None)


def _or_batch(extent: Extent, batch: int | None) -> Extent:
    return (batch or 1) if isinstance(extent, str) and _BATCH.fullmatch(extent) else extent


def _symbols(
    stored: Mapping[str, Sequence[Extent]], source: str, inputs: Mapping[str, Sequence[int]], dims: Mapping[str, int]
) -> dict[str, int]:
    """Extents of the symbols that the configuration fixes."""
    known = list(dict.fromkeys(e for shape in stored.values() for e in shape if isinstance(e, str)))
    for name in dims:
        if name not in known:
            names = ", ".join(known) or "none"
            hint = did_you_mean(name, known) or f"its symbols: {names}"
            raise ModelError(source, f"model.dims.{name}: the model has no such dynamic extent", hint)
    symbols = dict(dims)
    for name, shape in stored.items():
        given = inputs.get(name)
        if given is None:
            continue
        if len(given) != len(shape):
            raise ModelError(
                source, f"model.inputs.{name} has {len(given)} dimensions, the model has {len(shape)}: {list(shape)}"
            )
        for symbol, extent in zip(shape, given, strict=True):
            if isinstance(symbol, str) and symbols.setdefault(symbol, extent) != extent:
                raise ModelError(
                    source, f"model.inputs.{name}: {symbol} is {extent} here and {symbols[symbol]} elsewhere"
                )
    return symbols


def _line(name: str, extents: Sequence[Extent]) -> str:
    """What to write in the run file."""
    symbols = list(dict.fromkeys(extent for extent in extents if isinstance(extent, str)))
    numbers = [extent if isinstance(extent, int) else 128 for extent in extents]
    numbers[:1] = [1] if extents[0] is None else numbers[:1]
    shape = ", ".join(map(str, numbers))
    by_input = f"model.inputs.{name}: [{shape}]"
    if None in extents or not symbols:
        return f"write its extents, e.g. {by_input}; or give inputs (model.data)"
    by_name = ", ".join(f"{symbol}: 128" for symbol in symbols)
    return f"write its extents, e.g. model.dims: {{{by_name}}} or {by_input}; or give inputs (model.data)"
