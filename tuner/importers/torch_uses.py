"""What the inputs of an exported PyTorch program may hold: told by its graph, and by the example inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tuner.importers.use import Use
from tuner.importers.use_rules import RULES
from tuner.importers.uses import Facts, Step, uses_of
from tuner.protocols import Array

_LARGEST = 1 << 22
"""Elements of a constant up to which its values are looked at."""

_NAMES: Mapping[str, str] = {
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "clone", "alias", "detach", "contiguous", "squeeze", "unsqueeze", "permute",
         "transpose", "t", "slice", "select", "split", "split_with_sizes", "unbind", "repeat", "flip", "roll",
         "constant_pad_nd", "amax", "amin", "mean", "max_pool2d_with_indices", "avg_pool2d", "floor", "ceil", "round",
         "lift_fresh_copy", "as_strided", "tril", "triu", "expand", "unfold", "flatten", "unflatten", "expand_as",
         "view_as", "narrow", "chunk", "movedim", "swapaxes", "mT", "repeat_interleave", "dropout"),
        "Squeeze",
    ),
    "getitem": "Identity", "_to_copy": "Cast", "to": "Cast",
    "type_as": "Cast", "__and__": "And", "__or__": "Or", "cat": "Concat", "stack": "Concat",
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "remainder": "Mod", "fmod": "Mod",
    "pow": "Pow", "sqrt": "Sqrt", "rsqrt": "Rsqrt", "log": "Log", "log2": "Log", "log10": "Log", "log1p": "Log1p",
    "reciprocal": "Reciprocal", "asin": "Asin", "acos": "Acos", "atanh": "Atanh", "acosh": "Acosh", "relu": "Relu",
    "clamp": "Clip", "clamp_min": "Clip", "maximum": "Max", "minimum": "Min", "sum": "ReduceSum", "cumsum": "CumSum",
    "where": "Where", "logical_not": "Not", "bitwise_not": "Not", "logical_and": "And", "bitwise_and": "And",
    "logical_or": "Or", "bitwise_or": "Or", "eq": "Equal", "ne": "NotEqual", "gt": "Greater", "ge": "GreaterOrEqual",
    "lt": "Less", "le": "LessOrEqual", "_softmax": "Softmax", "softmax": "Softmax", "_log_softmax": "LogSoftmax",
    "index": "IndexTensor", "index_put": "IndexTensor", "gather": "GatherElements", "scatter": "ScatterElements",
    "grid_sampler_2d": "GridSample", "nll_loss_forward": "SoftmaxCrossEntropyLoss",
}  # fmt: skip
"""Operators of torch that are those of ONNX in what they tell, where the operands stand in the same order."""

_ORDER: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "embedding": ("Gather", (0, 1)),
    "index_select": ("Gather", (0, 2)),
    "gather": ("GatherElements", (0, 2)),
    "scatter": ("ScatterElements", (0, 2, 3)),
    "scatter_add": ("ScatterElements", (0, 2, 3)),
    "rsub": ("Sub", (1, 0)),
    "masked_fill": ("Where", (1, 2, 0)),
    "scaled_dot_product_attention": ("Attention", (0, 1, 2, 3)),
    "_scaled_dot_product_flash_attention_for_cpu": ("Attention", (0, 1, 2, 5)),
}
"""The same where they stand in another order: those of torch in the order of ONNX."""

_FILLED = {"full": 1, "full_like": 1, "scalar_tensor": 0}
"""Which argument is the value of all elements."""

_AXIS = {"index_select": 1, "gather": 1, "scatter": 1, "scatter_add": 1, "cat": 1}
"""Which argument is the axis."""


def input_uses(
    program: torch.export.ExportedProgram, names: Sequence[str], examples: Sequence[torch.Tensor]
) -> dict[str, Use]:
    """What each input may hold, by its name in `names`; `examples` tell where the graph does not."""
    walk = _Walk(program)
    uses = uses_of(walk.steps, Facts(walk.constant, walk.shapes.get), RULES)
    given = program.graph_signature.user_inputs
    told = {name: uses.get(str(inside), Use()) for name, inside in zip(names, given, strict=False)}
    return {name: by_example(told.get(name, Use()), example) for name, example in zip(names, examples, strict=True)}


def by_example(use: Use, example: torch.Tensor) -> Use:
    """`use`, or where it does not bound an input, the bounds of its example. Constant examples tell less: they stand
    for something else, ones for a mask."""
    if example.numel() == 0 or example.is_complex() or example.dtype == torch.bool:
        return use
    if use.levels is not None or use.mask or math.isfinite(use.high) or use.exact:
        return use
    low, high = float(example.min()), float(example.max())
    if example.is_floating_point():
        ranged = low >= 0 and high > low
        return use.also(Use(low, high)) if ranged else use
    if low < high:
        return use.also(Use(min(0.0, low), high))
    if use.include or use.factor or example.numel() == 1:
        return use.also(Use(low=low, high=high)) if example.numel() == 1 and not use.include else use
    return use.also(Use(levels=(1.0, 0.0)) if low == 1 else Use(min(0.0, low), max(1.0, high)))


class _Walk:
    """The calls of a program as steps, its tensors by name."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.steps: list[Step] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._bool: set[str] = set()
        self._stored = _stored(program)
        self._made: dict[str, Array] = {}
        for node in program.graph.nodes:
            self._see(node)
            if node.op == "call_function":
                self._add(node)

    def constant(self, name: str) -> Array | None:
        """The values of a stored tensor or of a number among the arguments."""
        if name in self._made:
            return self._made[name]
        tensor = self._stored.get(name)
        if tensor is None or tensor.numel() > _LARGEST or tensor.is_complex():
            return None
        wide = tensor.detach()
        self._made[name] = (wide.float() if wide.dtype == torch.bfloat16 else wide).numpy()
        return self._made[name]

    def _see(self, node: torch.fx.Node) -> None:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            self.shapes[node.name] = tuple(int(extent) for extent in value.shape)
            if value.dtype == torch.bool:
                self._bool.add(node.name)

    def _add(self, node: torch.fx.Node) -> None:
        packet = getattr(node.target, "overloadpacket", node.target)
        op = str(getattr(packet, "__name__", packet))
        arguments = _flat(node.args)
        if op == "clamp_min":
            arguments = [*arguments[:2]]
        if op in ("index", "index_put") and isinstance(node.args[1], (list, tuple)):
            arguments = [node.args[0], *node.args[1]]
        if (number := self._filled(op, node)) is not None:
            self._stored[node.name] = torch.tensor(number)
            return
        name, order = _ORDER.get(op, (_NAMES.get(op, ""), None))
        if not name:
            return
        if order is not None:
            arguments = [arguments[i] if i < len(arguments) else None for i in order]
        inputs = tuple(self._operand(argument) for argument in arguments)
        attributes = self._attributes(op, node)
        attributes |= {f"bool_{i}": True for i, operand in enumerate(inputs) if operand in self._bool}
        self.steps.append(Step(name, inputs, (node.name,), attributes))

    def _filled(self, op: str, node: torch.fx.Node) -> Any:
        """The one value of a tensor that is made full of it, or is a moved constant number; None for others."""
        if op in _FILLED and len(node.args) > _FILLED[op]:
            value = node.args[_FILLED[op]]
            return value if isinstance(value, (int, float)) else None
        first = node.args[0] if node.args else None
        if isinstance(first, torch.fx.Node) and _NAMES.get(op) in ("Squeeze", "Cast"):
            stored = self._stored.get(first.name)
            return stored.item() if stored is not None and stored.numel() == 1 else None
        return None

    def _attributes(self, op: str, node: torch.fx.Node) -> dict[str, Any]:
        axis = node.args[_AXIS[op]] if op in _AXIS and len(node.args) > _AXIS[op] else 0
        to_bool = node.kwargs.get("dtype") is torch.bool or torch.bool in node.args
        return {"axis": axis if isinstance(axis, int) else 0, "to_bool": to_bool}

    def _operand(self, argument: Any) -> str:
        if isinstance(argument, torch.fx.Node):
            return argument.name
        if isinstance(argument, (int, float)):
            name = f"number {argument!r}"
            self._stored.setdefault(name, torch.tensor(argument))
            self.shapes.setdefault(name, ())
            return name
        return ""


def _flat(arguments: Sequence[Any]) -> list[Any]:
    """The arguments, lists of tensors in their place."""
    flat: list[Any] = []
    for argument in arguments:
        tensors = isinstance(argument, (list, tuple)) and any(isinstance(a, torch.fx.Node) for a in argument)
        flat += argument if tensors else [argument]
    return flat


def _stored(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    signature = program.graph_signature
    inside = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    stored = {**program.state_dict, **program.constants}
    tensors = {name: stored[target] for name, target in inside.items() if target in stored}
    lifted = signature.inputs_to_lifted_tensor_constants
    return tensors | {name: program.constants[target] for name, target in lifted.items() if target in program.constants}
