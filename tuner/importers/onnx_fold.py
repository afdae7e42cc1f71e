"""Constant folding, control flow and shape inference, each after the other, until nothing changes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import onnx

from tuner.importers.onnx_clean import clean
from tuner.importers.onnx_control import resolve
from tuner.importers.onnx_defaults import opset_of
from tuner.importers.onnx_shapes import INFERENCE_ERRORS, infer, known_shapes

_ROUNDS = 32
"""Each round goes over the whole graph; a shape computed from a shape computed from a shape takes three."""


def settled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with its constants folded, its known control flow in line and all shapes that follow, in place.

    Its constants must be initializers, and the shapes of its inputs static.
    """
    opset = opset_of(model)
    model = clean(model)
    for _ in range(_ROUNDS):
        before = len(model.graph.node)
        try_to_infer(model)
        in_line = resolve(model.graph, known_shapes(model.graph), opset)
        if in_line:
            try_to_infer(model)
        model = clean(model)
        if not in_line and len(model.graph.node) == before:
            break
    return model


def try_to_infer(model: onnx.ModelProto, known: Sequence[onnx.ValueInfoProto] = ()) -> None:
    """`infer`; where it fails, what is known stays."""
    with contextlib.suppress(*INFERENCE_ERRORS):
        infer(model, known)
