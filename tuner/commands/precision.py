"""The model in the precision that a run file asks for: which layers take narrower operands, and what was made for it.

What is found out is kept in a folder of the run (`FOLDER`), so that the same model can be put together again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import files, importers
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.target import ResolvedTarget
from tuner.errors import ConfigError, ModelError
from tuner.measure.entries import store
from tuner.models import ImportedModel, InputSpec, LayerPrecision, Reduced
from tuner.precisions import FLOAT32, FLOATS, INT8, LAYER_ERROR, NARROWER
from tuner.process.limits import for_compilers
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.progress import Progress
from tuner.protocols import Array

if TYPE_CHECKING:
    import tvm

FOLDER = "precision"
"""In a run's folder."""

ERRORS = "errors.json"
"""What the run's precision costs each layer."""

CALIBRATION_SETS = 8
"""So many drawn sets of inputs tell the quantizer the ranges of activations, where the run file names no data."""

_LAYERS_S = 600.0


def why_not(precision: str, target: ResolvedTarget) -> str:
    """Why a precision gains nothing on a target, or cannot be had; "" where it may be asked for."""
    return "" if precision == FLOAT32 else resolve.kind_of(target).why_not(precision, target)


def require(config: RunConfig, target: ResolvedTarget) -> None:
    """Raises ConfigError where the target, or the kind of model, cannot have the precision that is asked for."""
    if config.precision == FLOAT32:
        return
    if config.model.raised:
        why = f"{config.precision}: a function of a program keeps its types"
        raise ConfigError("precision", why, "leave precision out")
    wanted = NARROWER if config.precision == "auto" else (config.precision,)
    refused = [why for precision in wanted if (why := why_not(precision, target))]
    if len(refused) == len(wanted):
        raise ConfigError("precision", refused[0], "leave precision out, or write a target that has them")


def as_asked(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, folder: Path, progress: Progress
) -> tuple[ImportedModel, tvm.IRModule]:
    """The model in the one precision of the run file, and its cleaned module. `folder` is that of the run's FOLDER.

    Raises ConfigError or ModelError, saying what stands in the way.
    """
    if config.precision == FLOAT32:
        return model, cleaned(model, target)
    folder.mkdir(parents=True, exist_ok=True)
    if config.precision in FLOATS:
        return in_floats(config, target, model, folder, progress)
    return in_int8(config, target, model, folder, progress)


def cleaned(model: ImportedModel, target: ResolvedTarget) -> tvm.IRModule:
    """The model's cleaned module, with quantized data in the bytes that the target's products want."""
    from tuner.graph import clean

    return clean(model.module, resolve.kind_of(target).data_bytes)


# --- float16 and bfloat16 -------------------------------------------------------------------------


def in_floats(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, folder: Path, progress: Progress
) -> tuple[ImportedModel, tvm.IRModule]:
    """The model with operands of layers in the narrower floats that are asked for, but for layers that lose too much by
    it."""
    from tuner.graph.layers import layers
    from tuner.graph.narrow import narrowed

    asked, module = config.precision, cleaned(model, target)
    found = layers(module)
    if not found:
        raise ModelError(model.source, "there is no product or convolution in float32 in it", "leave precision out")
    known = layer_errors(config, target, model, folder, progress, len(found))
    notes = [] if known else [f"what {asked} costs each layer is not known: all of them compute in it"]
    errors: Sequence[float | None] = known or [None] * len(found)
    table = tuple(
        LayerPrecision(layer.name, asked if (error or 0.0) <= LAYER_ERROR else FLOAT32, error)
        for layer, error in zip(found, errors, strict=True)
    )
    notes += _why_kept(asked, table)
    chosen = {layer.number: asked for layer, row in zip(found, table, strict=True) if row.precision == asked}
    narrow = narrowed(module, chosen)
    reduced = Reduced(asked, FLOATS[asked].unit if chosen else 0.0, layers=table)
    return replace(model, module=narrow, notes=(*model.notes, *notes), reduced=reduced), narrow


def _why_kept(asked: str, table: Sequence[LayerPrecision]) -> list[str]:
    """Sentences on the layers that stay in float32."""
    kept = [row.error for row in table if row.precision == FLOAT32 and row.error is not None]
    large = sum(math.isinf(error) for error in kept)
    words = {
        f"{asked} moves them by over {LAYER_ERROR:.0%}": len(kept) - large,
        f"what they multiply comes near the largest number of {asked}, or above it": large,
    }
    return [f"{count} of {len(table)} layers stay in float32: {why}" for why, count in words.items() if count]


def layer_errors(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, folder: Path, progress: Progress, count: int
) -> list[float]:
    """What the precision that is asked for costs each of `count` layers on the run's inputs, measured once; none where
    that cannot be computed. Infinity where it cannot hold what a layer multiplies."""
    return _kept(folder / ERRORS, count, lambda: _measured(config, target, model, folder, progress))


def _measured(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, folder: Path, progress: Progress
) -> list[float]:
    asked = config.precision
    progress.phase(f"measuring what {asked} costs each layer")
    [inputs, *_] = importers.input_sets(model.inputs, model.model_spec, config.search.seed)
    path = store(inputs.arrays, folder / "inputs.npz")
    settings = {"model_spec": dict(model.model_spec), "target": resolve.on_host(target).text, "threads": target.threads}
    service = "tuner.baselines.layerwise:LayerwiseWorker"
    try:
        with Child(service, settings, env=thread_env(target.threads), limits=for_compilers()) as child:
            found = child.call("errors", _LAYERS_S, inputs_npz_path=str(path), precision=asked)
            return [float(error) for error in found]
    except (ChildDied, ChildError, ChildTimeout) as error:
        progress.message(f"what {asked} costs each layer is not known: {str(error)[:200]}")
        return []
    finally:
        path.unlink(missing_ok=True)


def _kept(path: Path, count: int, measure: Callable[[], list[float]]) -> list[float]:
    """So many numbers, measured once and kept in a file. None are kept, and given, where they are not that many."""
    try:
        known = [float(number) for number in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        known = []
    if len(known) == count:
        return known
    measured = measure()
    if len(measured) != count:
        return []
    files.write_aside(path, json.dumps(measured).encode())
    return measured


# --- int8 -----------------------------------------------------------------------------------------


def in_int8(
    config: RunConfig, target: ResolvedTarget, model: ImportedModel, folder: Path, progress: Progress,
    excluded: Sequence[str] = (),
) -> tuple[ImportedModel, tvm.IRModule]:  # fmt: skip
    """The quantized model: as it came, where it came so, else as ONNX Runtime's quantizer makes it.

    `excluded`: the nodes that stay in float32. Raises ModelError or MissingPackage.
    """
    from tuner.importers import onnx_quantizer

    if not (folder / onnx_quantizer.FLOAT).exists():
        whole = importers.onnx_bytes(model.model_spec)
        if onnx_quantizer.is_quantized(whole):
            note = "the model is quantized as it came: its scales are its author's"
            return replace(model, notes=(*model.notes, note), reduced=Reduced(INT8)), cleaned(model, target)
        progress.phase(f"quantizing {model.name}")
        onnx_quantizer.prepare(whole, model.source, folder)
    known = (folder / onnx_quantizer.RANGES).exists()
    onnx_quantizer.quantize(model.source, folder, None if known else samples(config, model), excluded)
    spec = quantized_spec(config, model, folder / onnx_quantizer.QUANTIZED)
    made = importers.load_spec(spec)
    same_inputs(model, made.inputs)
    layers = tuple(
        LayerPrecision(f"{name} {'x'.join(map(str, weight.shape))}", FLOAT32 if name in excluded else INT8)
        for name, weight in onnx_quantizer.products(folder).items()
    )
    notes = (*model.notes, f"quantized by ONNX Runtime on {_calibrated_on(config)}")
    reduced = Reduced(INT8, whole=model.model_spec, layers=layers)
    return replace(model, module=made.module, model_spec={**made.model_spec, **drawn_as(model)}, plan=made.plan,
                   notes=notes, reduced=reduced), cleaned(made, target)  # fmt: skip


def samples(config: RunConfig, model: ImportedModel) -> list[dict[str, Array]]:
    """Inputs by name to calibrate with: those of the user, else drawn ones, other than those to verify with."""
    names = [spec.name for spec in model.inputs]
    if config.model.data is not None:
        sets = importers.input_sets(model.inputs, model.model_spec, config.search.seed)
        return [dict(zip(names, one.arrays, strict=True)) for one in sets]
    seeds = range(config.search.seed + 1000, config.search.seed + 1000 + CALIBRATION_SETS)
    return [
        dict(zip(names, importers.model_inputs(model.inputs, model.model_spec, seed), strict=True)) for seed in seeds
    ]


def quantized_spec(config: RunConfig, model: ImportedModel, path: Path) -> dict[str, Any]:
    """The spec of a model that was quantized into a file, with the inputs of the one that it was made of."""
    spec = importers.make_model_spec(f"onnx:{path.resolve()}", None, {}, "original", config.search.seed)
    return {**spec, "data": model.model_spec.get("data"), "one_of_several": model.model_spec["one_of_several"]}


def drawn_as(model: ImportedModel) -> dict[str, Any]:
    """What inputs are drawn from: quantized or not, a model gets the same."""
    return {key: model.model_spec[key] for key in ("uses", "texts") if key in model.model_spec}


def same_inputs(model: ImportedModel, inputs: Sequence[InputSpec]) -> None:
    if [(i.name, i.shape, i.dtype) for i in inputs] != [(i.name, i.shape, i.dtype) for i in model.inputs]:
        raise ModelError(model.source, "quantized it takes other inputs than before", "use precision: float32")


def _calibrated_on(config: RunConfig) -> str:
    data = config.model.data
    return f"{CALIBRATION_SETS} drawn sets of inputs" if data is None else f"the inputs of {Path(data).name}"
