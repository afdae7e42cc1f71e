"""An ONNX graph as a torch module: how an ONNX model reaches the PyTorch baselines.

The module is a torch.fx GraphModule: straight-line code, weights as buffers, values freed after their
last use, so that eager mode, torch.compile and channels_last see what a hand-written model would give them.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tuner.errors import MissingPackage, ModelError

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingPackage("torch", "running an ONNX model by torch operators", "torch") from error

from tuner.importers.onnx_clean import read_by
from tuner.importers.onnx_functions import expanded
from tuner.importers.onnx_operators import DIRECT, LITERAL_INPUTS, OPERATORS
from tuner.importers.onnx_parts import dtype_of, one_node, types_of
from tuner.importers.onnx_shapes import true_inputs
from tuner.importers.onnx_tensors import array_of
from tuner.protocols import Array

NodeRunner = Callable[[bytes], Callable[[Sequence[Any]], Sequence[Any]]]
"""Makes of an ONNX model of one node what computes its outputs from its inputs: numpy arrays, or lists of them."""


def to_module(
    model: onnx.ModelProto, source: str, inputs: Sequence[Array], other: NodeRunner | None = None
) -> tuple[torch.fx.GraphModule, tuple[Any, ...]]:
    """The graph of a cleaned model, in eval mode, and `inputs` as tensors (texts stay arrays).

    The module takes the graph's inputs in order and returns its output, or a tuple of several. It is run
    once. An operator without a torch form here is replaced by the function of other operators that the standard
    defines it by, where it does. What has neither is computed by `other`. Raises ModelError naming an operator, or an
    attribute of one, that has neither where there is no `other`.
    """
    module = _Builder(expanded(model, OPERATORS.keys() | DIRECT.keys()), source, other).build()
    tensors = tuple(torch.from_numpy(value) if value.dtype.kind in "biuf" else value for value in inputs)
    try:
        with torch.inference_mode():
            module(*tensors)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ModelError(source, f"cannot be run by torch operators: {error}") from error
    return module, tensors


_NARROW = ("int2", "int4", "uint2", "uint4")
_SEVERAL = ("GRU", "LSTM", "RNN", "Split", "TopK")
"""Operators whose torch form returns a tuple."""


class _Builder:
    def __init__(self, model: onnx.ModelProto, source: str, other: NodeRunner | None) -> None:
        self.model = model
        self.source = source
        self.other = other
        self.types = types_of(model.graph)
        self.graph = torch.fx.Graph()
        self.root = torch.nn.Module()
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.values: dict[str, torch.fx.Node] = {}
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)

    def build(self) -> torch.fx.GraphModule:
        for index, value in enumerate(true_inputs(self.model.graph)):
            self.values[value.name] = self.graph.placeholder(f"input_{index}")
        for node in self.model.graph.node:
            try:
                self._add(node)
            except ModelError:
                if self.other is None:
                    raise
                self._add_other(node, self.other)
        results = [self._value(output.name) for output in self.model.graph.output]
        self.graph.output(results[0] if len(results) == 1 else tuple(results))
        return torch.fx.GraphModule(self.root, self.graph).eval()

    def _add(self, node: onnx.NodeProto) -> None:
        run = OPERATORS.get(node.op_type) or DIRECT.get(node.op_type)
        if run is None:
            raise self._refused(node, "has no torch form")
        if narrow := next((name for name in node.output if self._is_narrow(name)), None):
            raise self._refused(node, f"makes {narrow!r}, of integers that torch has not")
        names = list(node.input)
        while names and not names[-1]:
            names.pop()
        literal = LITERAL_INPUTS.get(node.op_type, ())
        args = tuple(
            None if not name else self._literal(node, name) if index in literal else self._value(name)
            for index, name in enumerate(names)
        )
        result = self.graph.call_function(run, args, self._attributes(node))
        used = [name for name in node.output if name]
        if node.op_type in _SEVERAL:
            for index, name in enumerate(node.output):
                self.values[name] = self.graph.call_function(operator.getitem, (result, index))
        elif len(used) > 1 and self._is_read(used[1:]):
            raise self._refused(node, f"has outputs that have no torch form: {used[1:]}")
        else:
            self.values[used[0]] = result

    def _add_other(self, node: onnx.NodeProto, other: NodeRunner) -> None:
        """The node as a module of its own; what it reads of stored tensors is inside."""
        read = [name for name in dict.fromkeys(read_by(node)) if name in self.values and name not in self.stored]
        unknown = next((name for name in read if name not in self.types), None)
        if unknown is not None:
            raise self._refused(node, f"reads {unknown!r}, whose type is not known")
        made = [name for name in node.output if name]
        module = OneNode(other(one_node(self.model, node, read, made)), [dtype_of(self.types[name]) for name in read])
        self.root.add_module(f"node_{len(self.values)}", module)
        result = self.graph.call_module(f"node_{len(self.values)}", tuple(self.values[name] for name in read))
        for index, name in enumerate(made):
            self.values[name] = self.graph.call_function(operator.getitem, (result, index))

    def _attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        attributes = {attribute.name: _plain(helper.get_attribute_value(attribute)) for attribute in node.attribute}
        known: frozenset[str] = frozenset()
        if node.op_type in OPERATORS:
            parameters = inspect.signature(OPERATORS[node.op_type]).parameters.values()
            known = frozenset(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
            if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
                known |= {"min", "max"}  # Clip before opset 11
        for name in attributes:
            if name not in known:
                raise self._refused(node, f"has the attribute {name}, which has no torch form")
        if "opset" in known:
            attributes["opset"] = self.opset
        if "outputs" in known:
            attributes["outputs"] = len(node.output)
        return attributes

    def _value(self, name: str) -> torch.fx.Node:
        if name not in self.values:
            if self.stored[name].data_type == onnx.TensorProto.STRING:
                raise ModelError(self.source, f"the constant {name!r} holds texts, which have no torch form")
            attribute = f"weight_{len(self.values)}"
            with warnings.catch_warnings():
                # The array is a read-only view of the protobuf's bytes; nothing writes to it.
                warnings.simplefilter("ignore", UserWarning)
                tensor = _tensor(array_of(self.stored[name]))
            self.root.register_buffer(attribute, tensor.clone())
            self.values[name] = self.graph.get_attr(attribute)
        return self.values[name]

    def _literal(self, node: onnx.NodeProto, name: str) -> Any:
        if name not in self.stored:
            raise self._refused(node, f"takes {name!r} from a computation; only constants have a torch form there")
        return array_of(self.stored[name]).tolist()

    def _is_read(self, names: Sequence[str]) -> bool:
        read = {name for node in self.model.graph.node for name in node.input}
        return bool(read.union(output.name for output in self.model.graph.output).intersection(names))

    def _is_narrow(self, name: str) -> bool:
        return name in self.types and dtype_of(self.types[name]) in _NARROW

    def _refused(self, node: onnx.NodeProto, why: str) -> ModelError:
        return ModelError(self.source, f"operator {node.op_type} of node {node.name!r} {why}")


class OneNode(torch.nn.Module):
    """A node that something else computes. Floating operands are given in the type that the model has them in."""

    def __init__(self, run: Callable[[Sequence[Any]], Sequence[Any]], dtypes: Sequence[str | None]) -> None:
        super().__init__()
        self._run, self._dtypes = run, dtypes

    def forward(self, *values: Any) -> list[Any]:
        given = [_as_arrays(value, dtype) for value, dtype in zip(values, self._dtypes, strict=True)]
        return [_as_tensors(value) for value in self._run(given)]


def _as_arrays(value: Any, dtype: str | None) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_arrays(item, dtype) for item in value]
    array = value.numpy() if isinstance(value, torch.Tensor) else value
    return array.astype(dtype) if array.dtype.kind == "f" and dtype is not None else array


def _as_tensors(value: Any) -> Any:
    """Tensors in lists stay in lists; texts and maps stay as they are."""
    if isinstance(value, (list, tuple)):
        return [_as_tensors(item) for item in value]
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    return torch.from_numpy(np.array(value)) if numbers else value


def _tensor(array: Array) -> torch.Tensor:
    """A tensor of the array's type; torch does not know numpy's bfloat16, and integers of fewer than 8 bits have 8."""
    if array.dtype.name in _NARROW:
        return torch.from_numpy(array.astype("uint8" if array.dtype.name.startswith("u") else "int8"))
    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view("int16")).view(torch.bfloat16)


def _plain(value: Any) -> Any:
    """An attribute as plain Python: text for bytes, a tuple for a list."""
    if isinstance(value, bytes):
        return value.decode()
    return tuple(_plain(part) for part in value) if isinstance(value, list) else value
