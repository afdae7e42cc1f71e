"""Models quantized to eight bits by ONNX Runtime's own quantizer: static, weights by channel, activations calibrated.

What is written is an ONNX model with QuantizeLinear and DequantizeLinear around what is to be computed in integers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from tuner import files
from tuner.errors import MissingPackage, ModelError
from tuner.importers.onnx_clean import rename_inputs
from tuner.importers.onnx_plain import plain
from tuner.importers.onnx_tensors import PROTOBUF_BYTES, array_of, complete, parameter_bytes
from tuner.protocols import Array

try:
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference
except ModuleNotFoundError as error:
    raise MissingPackage("onnxruntime", "precision: int8", "onnx") from error

FLOAT, QUANTIZED, RANGES = "float.onnx", "quantized.onnx", "ranges.json"
"""In a folder: the model as it is quantized, with batch norms folded and all layers named; quantized; and the least and
largest value of each tensor over the samples."""

PRODUCTS = ("Conv", "Gemm", "MatMul")
_AROUND = ("Add", "MaxPool", "GlobalAveragePool", "AveragePool", "Concat", "Relu", "Clip", "Flatten", "Reshape")
"""What takes and gives steps between convolutions, so that activations are stored in bytes. Between the products of a
transformer are norms and softmax, which compute in float32: there only what products read is quantized."""

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger",
               "QLinearConv", "QLinearMatMul", "QGemm")  # fmt: skip


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a model came with quantized operators of its own."""
    return any(node.op_type in _QUANTIZERS for node in model.graph.node)


def prepare(model: onnx.ModelProto, source: str, folder: Path) -> None:
    """Write FLOAT: the model with batch norms folded, and names for its layers. Raises ModelError."""
    if parameter_bytes(model) > PROTOBUF_BYTES:
        raise ModelError(source, "its parameters are larger than 2 GiB, and ONNX Runtime's quantizer takes one file")
    given, folded = folder / "given.onnx", folder / "folded.onnx"
    given.write_bytes(plain(complete(model).SerializeToString()))
    with _quiet(source):
        shape_inference.quant_pre_process(str(given), str(folded), skip_symbolic_shape=True, skip_onnx_shape=False)
    named = onnx.load_model(folded)
    _name_anew(named.graph)
    files.write_aside(folder / FLOAT, named.SerializeToString())  # whole, or not there
    for path in (given, folded):
        path.unlink()


def _name_anew(graph: onnx.GraphProto) -> None:
    """Give nodes and stored tensors names by number. Those that ONNX Runtime's optimizer made it would make again when
    it loads the quantized model, and refuse."""
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
    names = {tensor.name: f"stored_{number}" for number, tensor in enumerate(graph.initializer)}
    outputs = {value.name for value in graph.output}
    taken = {value.name for value in graph.input} | {name for node in graph.node for name in node.output}
    names = {old: new for old, new in names.items() if old not in outputs and new not in taken}
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        rename_inputs(node, names)


def quantize(
    source: str, folder: Path, samples: Sequence[Mapping[str, Array]] | None, excluded: Collection[str] = ()
) -> None:
    """Write QUANTIZED from FLOAT, but for the nodes `excluded`, and RANGES, where it is not there, from `samples`.

    Raises ModelError for a model in which nothing can be quantized, or where the quantizer gives up.
    """
    layers, other = _layers(onnx.load_model(folder / FLOAT).graph)
    if not layers.keys() - set(excluded):
        raise ModelError(source, "there is no convolution or product in it to quantize", "use precision: float32")
    convolutions = sum(kind == "Conv" for kind in layers.values())
    steps_between = 2 * convolutions > len(layers)
    kinds = [*PRODUCTS, *(_AROUND if steps_between else ())]
    ranges = folder / RANGES
    seen = ranges if samples is None else _anew(folder / "ranges.part.json")  # whole, or not there
    with _quiet(source):
        quantization.quantize_static(
            str(folder / FLOAT), str(folder / QUANTIZED), _Samples(samples or ()), per_channel=True,
            quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, op_types_to_quantize=kinds, nodes_to_exclude=[*excluded, *other],
            calibration_cache_path=str(seen),
            extra_options={
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
                "OpTypesToExcludeOutputQuantization": [] if steps_between else list(PRODUCTS),
            },
        )  # fmt: skip
    seen.replace(ranges)
    if not is_quantized(onnx.load_model(folder / QUANTIZED)):
        raise ModelError(source, "ONNX Runtime's quantizer quantized nothing of it", "use precision: float32")


def _anew(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def products(folder: Path) -> dict[str, Array]:
    """The weights of the layers of FLOAT by their nodes' names, in order."""
    graph = onnx.load_model(folder / FLOAT).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    layers, _ = _layers(graph)
    return {node.name: array_of(stored[node.input[1]]) for node in graph.node if node.name in layers}


def _layers(graph: onnx.GraphProto) -> tuple[dict[str, str], list[str]]:
    """The operators of the products with constant weights by their nodes' names, and the names of other products."""
    stored = {tensor.name for tensor in graph.initializer}
    found = [node for node in graph.node if node.op_type in PRODUCTS]
    layers = {node.name: node.op_type for node in found if node.input[1] in stored}
    return layers, [node.name for node in found if node.name not in layers]


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Sequence[Mapping[str, Array]]) -> None:
        self._left = iter([{name: np.asarray(array) for name, array in sample.items()} for sample in samples])

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._left, None)


@contextlib.contextmanager
def _quiet(source: str) -> Iterator[None]:
    """Without the quantizer's advice; what it raises becomes a ModelError."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere):
                yield
    except ModelError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        why = f"ONNX Runtime's quantizer cannot take it: {reason[:300]}"
        raise ModelError(source, why, "use precision: float32, or one of narrower floats") from error
    finally:
        logging.getLogger().setLevel(level)
