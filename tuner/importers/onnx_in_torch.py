"""An ONNX graph as a torch module: how an ONNX model reaches the PyTorch baselines.

The module is a torch.fx GraphModule: straight-line code, weights as buffers, values freed after their
last use, so that eager mode, torch.compile and channels_last see what a hand-written model would give them.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper

from tuner.errors import MissingPackage, ModelError

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingPackage("torch", "running an ONNX model by torch operators", "torch") from error

from tuner.importers.onnx_functions import expanded
from tuner.importers.onnx_operators import DIRECT, LITERAL_INPUTS, OPERATORS
from tuner.importers.onnx_shapes import true_inputs
from tuner.importers.onnx_tensors import array_of
from tuner.protocols import Array


def to_module(
    model: onnx.ModelProto, source: str, inputs: Sequence[Array]
) -> tuple[torch.fx.GraphModule, tuple[torch.Tensor, ...]]:
    """The graph of a cleaned model, in eval mode, and `inputs` as tensors.

    The module takes the graph's inputs in order and returns its output, or a tuple of several. It is run
    once. An operator without a torch form here is replaced by the function of other operators that the standard
    defines it by, where it does. Raises ModelError naming an operator, or an attribute of one, that has neither.
    """
    module = _Builder(expanded(model, OPERATORS.keys() | DIRECT.keys()), source).build()
    tensors = tuple(torch.from_numpy(value) for value in inputs)
    try:
        with torch.inference_mode():
            module(*tensors)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ModelError(source, f"cannot be run by torch operators: {error}") from error
    return module, tensors


_SEVERAL = ("Split", "TopK")
"""Operators whose torch form returns a tuple."""


class _Builder:
    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self.model = model
        self.source = source
        self.graph = torch.fx.Graph()
        self.root = torch.nn.Module()
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.values: dict[str, torch.fx.Node] = {}
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)

    def build(self) -> torch.fx.GraphModule:
        for index, value in enumerate(true_inputs(self.model.graph)):
            self.values[value.name] = self.graph.placeholder(f"input_{index}")
        for node in self.model.graph.node:
            self._add(node)
        results = [self._value(output.name) for output in self.model.graph.output]
        self.graph.output(results[0] if len(results) == 1 else tuple(results))
        return torch.fx.GraphModule(self.root, self.graph).eval()

    def _add(self, node: onnx.NodeProto) -> None:
        run = OPERATORS.get(node.op_type) or DIRECT.get(node.op_type)
        if run is None:
            raise self._refused(node, "has no torch form")
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
            attribute = f"weight_{len(self.values)}"
            with warnings.catch_warnings():
                # The array is a read-only view of the protobuf's bytes; nothing writes to it.
                warnings.simplefilter("ignore", UserWarning)
                tensor = torch.from_numpy(array_of(self.stored[name]))
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

    def _refused(self, node: onnx.NodeProto, why: str) -> ModelError:
        return ModelError(self.source, f"operator {node.op_type} of node {node.name!r} {why}")


def _plain(value: Any) -> Any:
    """An attribute as plain Python: text for bytes, a tuple for a list."""
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if isinstance(value, list) else value
