"""Control flow that is known at import: the chosen branch of an If, and loops of a known number of trips, in line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tuner.importers.onnx_clean import rename_inputs
from tuner.importers.onnx_shapes import Shapes

MAX_NODES = 4096
"""Nodes that a loop may become. Beyond that, compiling takes longer than any loop is worth."""

OPERATORS = ("If", "Loop", "Scan")

Stored = Mapping[str, onnx.TensorProto]


def resolve(graph: onnx.GraphProto, shapes: Shapes, opset: int) -> bool:
    """Put what is known of If, Loop and Scan in line, in place; whether there was any.

    An If is known when its condition is stored, a Loop when its count is and its body never ends it, a Scan when the
    shapes of its inputs are. What the subgraphs define gets names of its own; what they take from outside keeps its.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    remaining: list[onnx.NodeProto] = []
    changed = False
    for node in graph.node:
        inline = _Inline(node, opset)
        known = {"If": _branch, "Loop": _loop, "Scan": _scan}.get(node.op_type)
        if known is None or node.domain not in ("", "ai.onnx") or not known(node, stored, shapes, inline):
            remaining.append(node)
            continue
        changed = True
        remaining += inline.nodes
        graph.initializer.extend(inline.initializers)
    if changed:
        del graph.node[:]
        graph.node.extend(remaining)
    return changed


class _Inline:
    """What one node becomes: nodes and constants with names that no others have."""

    def __init__(self, node: onnx.NodeProto, opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._prefix = next((name for name in node.output if name), node.name)
        self._names = 0
        self._opset = opset

    def fresh(self) -> str:
        self._names += 1
        return f"{self._prefix}__{self._names}"

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """The name of what a new node makes; `output`, or a new one."""
        output = output or self.fresh()
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, values: object) -> str:
        name = self.fresh()
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def unsqueezed(self, name: str, axis: int) -> str:
        if self._opset < 13:
            return self.add("Unsqueeze", [name], axes=[axis])
        return self.add("Unsqueeze", [name, self.constant(np.array([axis], np.int64))])

    def constants(self, body: onnx.GraphProto) -> dict[str, str]:
        """New names of what a body stores, which is copied once."""
        names = {tensor.name: f"{self._prefix}__{tensor.name}" for tensor in body.initializer}
        for tensor in body.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = names[tensor.name]
            self.initializers.append(copy)
        return names

    def trip(self, body: onnx.GraphProto, bound: Mapping[str, str], trip: int) -> list[str]:
        """Add the nodes of a body whose inputs are `bound`; the new names of its outputs."""
        made = {name: f"{self._prefix}__{trip}_{name}" for node in body.node for name in node.output if name}
        names = {**made, **bound}
        for node in body.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{self._prefix}__{trip}_{node.name}" if node.name else ""
            rename_inputs(copy, names)
            for index, name in enumerate(copy.output):
                copy.output[index] = names.get(name, name)
            self.nodes.append(copy)
        return [names.get(output.name, output.name) for output in body.output]

    def give(self, made: list[str], outputs: list[str]) -> None:
        for source, output in zip(made, outputs, strict=True):
            if output:
                self.add("Identity", [source], output)


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _branch(node: onnx.NodeProto, stored: Stored, shapes: Shapes, inline: _Inline) -> bool:
    if node.input[0] not in stored:
        return False
    taken = "then_branch" if numpy_helper.to_array(stored[node.input[0]]).any() else "else_branch"
    body = next(attribute.g for attribute in node.attribute if attribute.name == taken)
    inline.give(inline.trip(body, inline.constants(body), 0), list(node.output))
    return True


def _loop(node: onnx.NodeProto, stored: Stored, shapes: Shapes, inline: _Inline) -> bool:
    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    count, condition = node.input[0], node.input[1] if len(node.input) > 1 else ""
    if count not in stored or (condition and condition not in stored) or not _goes_on(body):
        return False
    trips = int(numpy_helper.to_array(stored[count]).reshape(-1)[0])
    if condition and not numpy_helper.to_array(stored[condition]).any():
        trips = 0
    states = list(node.input[2:])
    scans = len(body.output) - 1 - len(states)
    if trips * len(body.node) > MAX_NODES or (trips < 1 and scans):
        return False
    fixed = inline.constants(body)
    rows: list[list[str]] = [[] for _ in range(scans)]
    true = inline.constant(np.array(True))
    for trip in range(max(trips, 0)):
        number = inline.constant(np.array(trip, np.int64))
        given = dict(zip((value.name for value in body.input), (number, true, *states), strict=True))
        made = inline.trip(body, {**fixed, **given}, trip)
        states = made[1 : 1 + len(states)]
        for row, name in zip(rows, made[1 + len(states) :], strict=True):
            row.append(name)
    inline.give([*states, *_stacked(rows, [0] * scans, inline)], list(node.output))
    return True


def _goes_on(body: onnx.GraphProto) -> bool:
    """Whether a body hands on its condition, or a constant that is true."""
    name, given = body.output[0].name, body.input[1].name
    makers = {output: node for node in body.node for output in node.output}
    constants = {tensor.name: tensor for tensor in body.initializer}
    while (maker := makers.get(name)) is not None and maker.op_type == "Identity":
        name = maker.input[0]
    if maker is not None and maker.op_type == "Constant":
        value = _attributes(maker).get("value")
        return isinstance(value, onnx.TensorProto) and bool(numpy_helper.to_array(value).all())
    return name == given or (name in constants and bool(numpy_helper.to_array(constants[name]).all()))


def _scan(node: onnx.NodeProto, stored: Stored, shapes: Shapes, inline: _Inline) -> bool:
    attributes = _attributes(node)
    body, scanned = attributes["body"], int(attributes["num_scan_inputs"])  # type: ignore[call-overload]
    assert isinstance(body, onnx.GraphProto)
    if len(body.input) == len(node.input) - 1:
        return _scan_of_batches(node, body, scanned, shapes, inline)
    if len(body.input) != len(node.input):
        return False
    count = len(node.input) - scanned
    states, sources = list(node.input[:count]), list(node.input[count:])
    scans = len(body.output) - count

    def setting(name: str, length: int) -> list[int]:
        value = attributes.get(name)
        return [int(number) for number in value] if isinstance(value, list) else [0] * length

    axes, backwards = setting("scan_input_axes", scanned), setting("scan_input_directions", scanned)
    out_axes, out_backwards = setting("scan_output_axes", scans), setting("scan_output_directions", scans)
    if any(not shapes.get(source) for source in sources):
        return False
    trips = shapes[sources[0]][axes[0]]
    if trips < 1 or trips * len(body.node) > MAX_NODES:
        return False
    fixed = inline.constants(body)
    rows: list[list[str]] = [[] for _ in range(scans)]
    for trip in range(trips):
        slices = [
            inline.add("Gather", [source, inline.constant(np.array(trips - 1 - trip if back else trip))], axis=axis)
            for source, axis, back in zip(sources, axes, backwards, strict=True)
        ]
        given = dict(zip((value.name for value in body.input), (*states, *slices), strict=True))
        made = inline.trip(body, {**fixed, **given}, trip)
        states = made[:count]
        for row, name in zip(rows, made[count:], strict=True):
            row.append(name)
    rows = [row[::-1] if back else row for row, back in zip(rows, out_backwards, strict=True)]
    inline.give([*states, *_stacked(rows, out_axes, inline)], list(node.output))
    return True


def _scan_of_batches(
    node: onnx.NodeProto, body: onnx.GraphProto, scanned: int, shapes: Shapes, inline: _Inline
) -> bool:
    """Scan of operator set 8: axis 0 of all operands is the batch, axis 1 of the scanned ones the sequence."""
    lengths, names, backwards = node.input[0], list(node.input[1:]), _attributes(node).get("directions")
    count = len(names) - scanned
    if lengths or any(backwards or ()) or any(len(shapes.get(name, ())) < 2 for name in names[count:]):  # type: ignore[arg-type]
        return False
    batch, trips = shapes[names[count]][:2]
    if batch < 1 or trips < 1 or batch * trips * len(body.node) > MAX_NODES:
        return False
    fixed = inline.constants(body)

    def taken(name: str, index: int) -> str:
        return inline.add("Gather", [name, inline.constant(np.array(index, np.int64))], axis=0)

    made: list[list[str]] = []
    for number in range(batch):
        states, *sources = [taken(name, number) for name in names[:count]], *(taken(n, number) for n in names[count:])
        rows: list[list[str]] = [[] for _ in range(len(body.output) - count)]
        for trip in range(trips):
            slices = [taken(source, trip) for source in sources]
            given = dict(zip((value.name for value in body.input), (*states, *slices), strict=True))
            after = inline.trip(body, {**fixed, **given}, number * trips + trip)
            states = after[:count]
            for row, name in zip(rows, after[count:], strict=True):
                row.append(name)
        made.append([*states, *_stacked(rows, [0] * len(rows), inline)])
    outputs = [list(row) for row in zip(*made, strict=True)]
    inline.give(_stacked(outputs, [0] * len(outputs), inline), list(node.output))
    return True


def _stacked(rows: list[list[str]], axes: list[int], inline: _Inline) -> list[str]:
    """What the trips made, side by side on a new axis."""
    made = []
    for row, axis in zip(rows, axes, strict=True):
        made.append(inline.add("Concat", [inline.unsqueezed(name, axis) for name in row], axis=axis))
    return made
