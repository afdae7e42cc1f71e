"""The walk over an ONNX graph: our own converters first, then TVM's."""

from __future__ import annotations

import contextlib
import io
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import tvm
from onnx import helper
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.frontend.onnx import onnx_frontend

from tuner.errors import ModelError
from tuner.importers.onnx_file import described, first_line, nodes
from tuner.importers.onnx_relax import CONVERTERS
from tuner.importers.onnx_relax.node import Node, Unsupported
from tuner.importers.onnx_tensors import array_of

CONVERTER_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What converters raise for a graph they cannot take; tvm.error's own are RuntimeErrors."""

_NARROW = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8}
"""Packed integers, and the dtype in which constants of them are stored: TVM's kernels read whole bytes."""

_OF_MICROSOFT = {
    "AllClassNMS", "Attention", "BiasGelu", "EmbedLayerNormalization", "FastGelu", "MatMulInteger16",
    "SkipLayerNormalization",
}  # fmt: skip
"""What TVM's converters of these names convert is of another domain than the standard's."""

_OF_TVM = frozenset({*onnx_frontend._get_convert_map(), "Constant", "If"} - _OF_MICROSOFT)  # noqa: SLF001  no public list


def is_supported(domain: str, operator: str) -> bool:
    """Whether an operator has a converter, of ours or of TVM's."""
    domain = "" if domain == "ai.onnx" else domain
    return (domain, operator) in CONVERTERS or (operator in _OF_TVM and domain == "")


def known_operators() -> frozenset[str]:
    """The standard operators that have a converter."""
    return _OF_TVM | {operator for domain, operator in CONVERTERS if domain == ""}


def to_relax(model: onnx.ModelProto, source: str) -> tvm.IRModule:
    """A cleaned model as relax. Raises ModelError naming the operator or the node that stands in the way."""
    for node in nodes(model.graph):
        if not is_supported(node.domain, node.op_type):
            raise ModelError(source, f"operator {described(node)} is not supported by TVM")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    # The frontend prints and warns about names that are not identifiers and about what it then raises.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        importer = _Importer(source)
        try:
            return importer.from_onnx(model.graph, opset)
        except ModelError:
            importer.bb._end_block()  # noqa: SLF001  a builder that dies with an open block prints a warning
            raise
        except CONVERTER_ERRORS as error:
            raise ModelError(source, f"TVM cannot convert the graph: {first_line(error)}") from error


class NotConvertible(ModelError):
    """A converter refuses a node, which makes the values `makes`; `why` is without the name of the node."""

    def __init__(self, source: str, node: onnx.NodeProto, why: str) -> None:
        super().__init__(source, f"operator {described(node)}: {why}")
        self.makes, self.operator, self.why = tuple(node.output), node.op_type, why


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer, which does not say which node it could not take, and knows operators by name only."""

    def __init__(self, source: str) -> None:
        super().__init__(None, "float32")
        self._source = source

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        """Nothing: `to_relax` has checked."""

    def _parse_graph_input(self, graph: onnx.GraphProto) -> None:
        """Inputs as they are: TVM's own way takes an extent of 0 for one that is not known."""
        for value in graph.input:
            if value.name not in self._nodes:
                tensor = value.type.tensor_type
                shape = [dim.dim_value for dim in tensor.shape.dim]
                dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
                self._num_input += 1
                self._nodes[value.name] = self._new_var(self._sanitize_name(value.name), shape, dtype)
            self._inputs[value.name] = self._nodes[value.name]

    def _parse_array(self, tensor_proto: onnx.TensorProto) -> Any:
        array = array_of(tensor_proto)
        wide = _NARROW.get(array.dtype.name)
        return tvm.runtime.tensor(np.asarray(array, wide, order="C"))  # ascontiguousarray makes a scalar a vector

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            domain = "" if node.domain == "ai.onnx" else node.domain
            convert = CONVERTERS.get((domain, node.op_type))
            values = None if convert is None else self._converted(convert, node)
            if values is None:
                self._by_tvm(node)
                continue
            self._nodes.update(zip(node.output, values, strict=False))

    def _converted(self, convert: Any, node: onnx.NodeProto) -> tuple[Any, ...] | None:
        """What a node makes; None for a form that is TVM's."""
        inputs = [self._as_tensor(self._nodes[name]) if name else None for name in node.input]
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        seen = Node(self.bb, inputs, attributes, self.opset, [bool(name) for name in node.output])
        try:
            made = convert(seen)
        except Unsupported as error:
            raise NotConvertible(self._source, node, str(error)) from error
        except CONVERTER_ERRORS as error:
            raise NotConvertible(self._source, node, f"it cannot be converted: {first_line(error)}") from error
        if made is None:
            return None
        values = made if isinstance(made, tuple) else (made,)
        return tuple(value if value is None else self.bb.emit(value) if _is_call(value) else value for value in values)

    def _as_tensor(self, value: Any) -> Any:
        """TVM's converters keep shapes as shape expressions; ours read tensors."""
        if isinstance(value, relax.ShapeExpr):
            return relax.const(np.array([int(extent) for extent in value.values], np.int64), "int64")
        return value if isinstance(value, (relax.Var, GenericConst)) else self.bb.emit(value)

    def _by_tvm(self, node: onnx.NodeProto) -> None:
        try:
            super()._construct_nodes(SimpleNamespace(node=[node]))
        except CONVERTER_ERRORS as error:
            raise NotConvertible(self._source, node, f"TVM cannot convert it: {first_line(error)}") from error


def _is_call(value: Any) -> bool:
    return not isinstance(value, (relax.Var, GenericConst))
