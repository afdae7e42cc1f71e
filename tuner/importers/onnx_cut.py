"""Cutting an ONNX graph into parts that run one after the other: tuned ones, and islands of what cannot be lowered."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from tuner.importers.onnx_clean import read_by
from tuner.importers.onnx_shapes import Shapes

LEAST_SHARE = 0.01
"""A part with less than this share of the arithmetic of all that can be tuned is not worth two crossings: it goes to
the islands around it."""

_VIEWS = ("Cast", "Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze")
_SEQUENTIAL = ("GRU", "LSTM", "RNN")


@dataclass(frozen=True)
class Cut:
    """Nodes, by number and in the order of the graph, that run together."""

    tuned: bool
    nodes: tuple[int, ...]


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the nodes of which nothing is read, in place: a part of such nodes alone would have no outputs."""
    wanted = {output.name for output in graph.output}
    for number in reversed(range(len(graph.node))):
        if wanted.isdisjoint(graph.node[number].output):
            del graph.node[number]
        else:
            wanted.update(read_by(graph.node[number]))


def cut(graph: onnx.GraphProto, out: Collection[int], shapes: Shapes) -> list[Cut]:
    """The parts of a graph whose nodes stand in an order in which they can run, in such an order, too. All are read.

    Nodes whose numbers are in `out` are in islands, and so are those that would make a part that is not worth it
    (`LEAST_SHARE`) and views that only islands read. There is no tuned part where none of the other nodes computes
    anything.
    """
    out = {*out, *_views_for(graph, out)}
    work = [0.0 if number in out else _work(node, shapes) for number, node in enumerate(graph.node)]
    least = LEAST_SHARE * sum(work)
    while True:
        parts = _fewest(graph, out)
        small = [p for p in parts if p.tuned and sum(work[n] for n in p.nodes) <= least]
        if not small:
            return parts
        out.update(number for part in small for number in part.nodes)


def _views_for(graph: onnx.GraphProto, out: Collection[int]) -> set[int]:
    """The nodes before islands that only give a tensor another shape or type: outside of a part it is a copy."""
    wanted = {output.name for output in graph.output}
    views = set[int]()
    for number, node in reversed(list(enumerate(graph.node))):
        read_by_islands = number in out or (node.op_type in _VIEWS and wanted.isdisjoint(node.output))
        if not read_by_islands:
            wanted.update(read_by(node))
        elif number not in out:
            views.add(number)
    return views


def _fewest(graph: onnx.GraphProto, out: Collection[int]) -> list[Cut]:
    """The fewest parts: each takes all nodes of its kind that can run by then."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in read_by(node) if name in makers} for node in graph.node]
    return min((_taking_turns(needs, out, tuned) for tuned in (True, False)), key=len)


def _taking_turns(needs: Sequence[Collection[int]], out: Collection[int], tuned: bool) -> list[Cut]:
    """The parts where a tuned one (or an island) comes first."""
    left, done = list(range(len(needs))), set[int]()
    parts = []
    while left:
        taken = []
        for number in left:
            if (number not in out) == tuned and done.issuperset(needs[number]):
                taken.append(number)
                done.add(number)
        if taken:
            parts.append(Cut(tuned, tuple(taken)))
        left = [number for number in left if number not in done]
        tuned = not tuned
    return parts


def _work(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """About how many operations a node makes: two for each product of a sum, one for each element otherwise."""
    if node.op_type in _VIEWS:
        return 0.0
    read = [math.prod(shapes[name]) for name in node.input if name in shapes]
    made = [math.prod(shapes[name]) for name in node.output if name in shapes]
    elements = max(made or read, default=0)
    weight = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    if node.op_type in ("Conv", "ConvInteger"):
        return 2.0 * elements * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return 2.0 * read[0] * math.prod(weight[1:])
    if node.op_type in ("MatMul", "MatMulInteger"):
        return 2.0 * elements * (shapes.get(node.input[0]) or (1,))[-1]
    if node.op_type == "Gemm" and weight:
        return 2.0 * elements * math.prod(weight) / max(shapes.get(node.output[0], (1,))[-1], 1)
    if node.op_type in _SEQUENTIAL:
        return 2.0 * (shapes.get(node.input[0]) or (1,))[0] * sum(read[1:])
    return float(elements)
