"""The model with its layers in a mix of precisions that is found by search: `precision: auto`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner import importers
from tuner.commands import mixing, precision
from tuner.commands.mixing import Judge, Mix, Simulated
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.target import ResolvedTarget
from tuner.errors import ConfigError, MissingPackage, ModelError
from tuner.importers.samples import read_samples
from tuner.models import ImportedModel, LayerPrecision, Reduced
from tuner.precisions import FLOAT32, FLOATS, INT8, NARROWER
from tuner.progress import Progress
from tuner.protocols import Array

if TYPE_CHECKING:
    import tvm

Timer = Callable[[Sequence[Any], Sequence[str]], list[Mapping[str, float]]]
"""From layers and precisions to the seconds of each layer in each: `commands.layer_times`."""


def in_mix(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, folder: Path, progress: Progress,
    timer: Timer | None,
) -> tuple[ImportedModel, tvm.IRModule]:  # fmt: skip
    """The model with each layer in the precision that was decided in `folder`, or is found out now.

    Raises ConfigError where it would have to be found out, and there is no timer.
    """
    from tuner.graph.layers import layer_calls, layers
    from tuner.importers import onnx_quantizer

    base, names, notes = _base(config, target, model, folder, progress)
    if base.reduced is not None:  # it came quantized
        return base, precision.cleaned(base, target)
    cleaned = precision.cleaned(base, target)
    calls = layer_calls(cleaned)
    if not calls:
        raise ModelError(model.source, "there is no product or convolution in float32 in it", "leave precision out")
    prints = [fingerprint(np.asarray(call.args[1].value.numpy())) for call in calls]
    available = [FLOAT32, *(p for p in NARROWER if not precision.why_not(p, target) and (p != INT8 or names))]
    mix = mixing.read(folder)
    if mix is None or len(mix.layers) != len(calls):
        if timer is None:
            raise ConfigError("precision", "auto: the mix is found out by `run`", "name the run, or a precision")
        times = timer(calls, available)
        left = [{p: s for p, s in t.items() if p != INT8 or key in names} for t, key in zip(times, prints, strict=True)]
        mix = _found(
            config, target, model, base, folder, progress, [t if FLOAT32 in t else {FLOAT32: 0.0} for t in left]
        )
        mixing.keep(mix, folder)
    table = tuple(
        LayerPrecision(layer.name, layer_precision, error)
        for layer, layer_precision, error in zip(layers(cleaned), mix.layers, mix.errors, strict=True)
    )
    by_print = dict(zip(prints, mix.layers, strict=True))
    in_bytes = {names[key] for key, chosen in by_print.items() if chosen == INT8}
    whole: Mapping[str, Any] | None = None
    if in_bytes:
        known = (folder / onnx_quantizer.RANGES).exists()
        given = None if known else precision.samples(config, model)
        onnx_quantizer.quantize(model.source, folder, given, sorted(set(names.values()) - in_bytes))
        base = _loaded(config, model, folder / onnx_quantizer.QUANTIZED)
        cleaned, whole = precision.cleaned(base, target), model.model_spec
    narrow, unit = _narrowed(cleaned, by_print)
    notes = (*notes, _words(mix))
    spec = base.model_spec if whole is not None else model.model_spec
    reduced = Reduced("auto", unit, whole, table, mix.looked_at)
    made = replace(model, module=narrow, plan=base.plan, model_spec=spec, notes=(*model.notes, *notes), reduced=reduced)
    return made, narrow


def _base(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, folder: Path, progress: Progress
) -> tuple[ImportedModel, dict[str, str], tuple[str, ...]]:
    """The model whose layers are chosen, and the nodes of those that can be quantized by the fingerprint of their
    weights. Where any can, it is the one that the quantizer takes, with batch norms folded."""
    from tuner.importers import onnx_quantizer

    if precision.why_not(INT8, target):
        return model, {}, (f"int8 is left out: {precision.why_not(INT8, target)}",)
    try:
        if not (folder / onnx_quantizer.FLOAT).exists():
            proto = importers.onnx_bytes(model.model_spec)
            if onnx_quantizer.is_quantized(proto):
                made, _ = precision.in_int8(config, target, model, folder, progress)
                return made, {}, ()
            onnx_quantizer.prepare(proto, model.source, folder)
        products = onnx_quantizer.products(folder)
        base = _loaded(config, model, folder / onnx_quantizer.FLOAT)
    except (ModelError, MissingPackage) as error:
        return model, {}, (f"int8 is left out: {error.message}",)
    return base, {fingerprint(weight): name for name, weight in products.items()}, ()


def _loaded(config: RunConfig, model: ImportedModel, path: Path) -> ImportedModel:
    made = importers.load_spec(precision.quantized_spec(config, model, path))
    precision.same_inputs(model, made.inputs)
    return replace(made, model_spec={**made.model_spec, **precision.drawn_as(model)})


def fingerprint(weight: Array) -> str:
    """What tells a weight from another, whichever way it is turned."""
    wide = weight.astype(np.float64)
    return f"{sorted(weight.shape)} {np.abs(wide).sum():.8e} {(wide**2).sum():.8e} {np.abs(wide).max():.8e}"


def _narrowed(cleaned: tvm.IRModule, by_print: Mapping[str, str]) -> tuple[tvm.IRModule, float]:
    """The module with those layers in narrower floats that are to be, and the unit roundoff of the coarsest of them."""
    from tuner.graph.layers import layer_calls
    from tuner.graph.narrow import narrowed

    prints = [fingerprint(np.asarray(call.args[1].value.numpy())) for call in layer_calls(cleaned)]
    chosen = {number: by_print[key] for number, key in enumerate(prints) if by_print.get(key) in FLOATS}
    unit = max((FLOATS[dtype].unit for dtype in chosen.values()), default=0.0)
    return narrowed(cleaned, chosen) if chosen else cleaned, unit


def _found(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, base: ImportedModel, folder: Path,
    progress: Progress, times: mixing.Times,
) -> Mix:  # fmt: skip
    progress.phase("looking for the fastest mix of precisions that keeps the accuracy")
    asked = config.accuracy
    if asked.bound is None:
        asked = mixing.DEFAULT
        progress.message(f"no accuracy is asked for: {asked.metric} of at least {asked.at_least} is kept")
    given, labels, right = _samples(config, model)
    with Simulated(base.model_spec, resolve.on_host(target).text, target.threads, given, folder) as simulated:
        simulated.calibrate()
        judge = Judge(asked, right or simulated.outputs([]), labels)
        return mixing.find(times, simulated.outputs, judge, FLOAT32)


def _samples(config: RunConfig, model: ImportedModel) -> tuple[list[Any], Array | None, list[Any]]:
    """Inputs to judge mixes by, with their labels and the outputs that are right, as far as the user gives them."""
    if config.accuracy.data is None:
        sets = importers.input_sets(model.inputs, model.model_spec, config.search.seed)
        return [one.arrays for one in sets], None, []
    samples = read_samples(config.accuracy.data, model.inputs)
    count = min(len(samples.inputs), mixing.MOST_SAMPLES)
    labels = samples.labels
    if labels is not None:
        labels = labels.reshape(len(samples.inputs), -1)[:count]
    return list(samples.inputs[:count]), labels, list(samples.outputs[:count])


def _words(mix: Mix) -> str:
    counts = {name: mix.layers.count(name) for name in sorted(set(mix.layers))}
    told = ", ".join(f"{count} in {name}" for name, count in counts.items())
    kept = "" if mix.kept else "; no mix that was looked at keeps the accuracy"
    return f"mix of precisions: {told}, of {len(mix.looked_at)} that were looked at{kept}"
