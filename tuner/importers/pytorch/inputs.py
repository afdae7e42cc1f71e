"""How a module is called: which parts of its example inputs are the model's inputs, their names and their shapes."""

from __future__ import annotations

import enum
import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tuner.errors import ModelError
from tuner.schema import did_you_mean

Tensors = tuple[torch.Tensor, ...]

_SETTINGS = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, enum.Enum, type(None))
"""What may stand among example inputs beside tensors: it stays what it is in the example."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class CallLayout:
    """A call as one flat list of `leaves`, of which those at `positions` are the inputs, called `names`."""

    leaves: tuple[Any, ...]
    structure: Any
    positions: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def tensors(self) -> Tensors:
        """The example inputs."""
        return tuple(self.leaves[position] for position in self.positions)

    @property
    def is_plain(self) -> bool:
        """Whether the module can be called with its inputs in a row."""
        args, kwargs = pytree.tree_unflatten(self.leaves, self.structure)
        return not kwargs and all(isinstance(arg, torch.Tensor) for arg in args)

    def call(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments by position and by keyword with these inputs."""
        leaves = list(self.leaves)
        for position, tensor in zip(self.positions, tensors, strict=True):
            leaves[position] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.structure)
        return tuple(args), dict(kwargs)


def layout_of(source: str, module: torch.nn.Module, examples: Sequence[Any]) -> CallLayout:
    """How `module` is called. `examples` is one value (a tensor, a sequence of arguments, or a mapping of keyword
    arguments), or both a sequence and a mapping. Raises ModelError naming what is neither tensor nor plain setting."""
    args, kwargs = _arguments(source, module, examples)
    parameters = _positional_names(module, len(args))
    found, structure = pytree.tree_flatten_with_path((args, kwargs))
    positions, names = [], []
    for position, (path, leaf) in enumerate(found):
        name = _name(path, parameters)
        if isinstance(leaf, torch.Tensor):
            positions.append(position)
            names.append(name)
        elif not isinstance(leaf, _SETTINGS):
            raise ModelError(
                source, f"the example input {name} is a {type(leaf).__name__}",
                "inputs are tensors, or tuples, lists and dicts of them; make other objects inside of forward",
            )  # fmt: skip
    if not positions:
        raise ModelError(source, "there is no tensor among the example inputs")
    return CallLayout(tuple(leaf for _, leaf in found), structure, tuple(positions), _unique(names))


def bare_layout(source: str, module: torch.nn.Module, shapes: Sequence[Sequence[int]]) -> CallLayout:
    """For a module without example inputs: float32 inputs of these shapes, by position."""
    return layout_of(source, module, [tuple(torch.randn(tuple(shape)) for shape in shapes)])


def shaped(source: str, layout: CallLayout, model_spec: Mapping[str, Any]) -> Tensors:
    """The example inputs in the shapes that the model spec asks for: as they are where they fit, else made anew.

    Raises ModelError for a name that no input has.
    """
    if model_spec["dims"]:
        raise ModelError(source, "model.dims: a PyTorch model has no named extents", "write model.inputs.NAME: [...]")
    names, examples = layout.names, layout.tensors
    position = {f"arg{index}": name for index, name in enumerate(names)} | {name: name for name in names}
    given: dict[str, tuple[int, ...]] = {}
    for key, shape in model_spec["inputs"].items():
        if key not in position:
            hint = did_you_mean(key, names) or f"its inputs: {', '.join(names)}"
            raise ModelError(source, f"model.inputs.{key}: the model has no such input", hint)
        given[position[key]] = tuple(shape)
    leading, batch = examples[0].shape[:1], model_spec["batch"]
    tensors = []
    for name, example in zip(names, examples, strict=True):
        shape = tuple(example.shape)
        batched = (batch, *shape[1:]) if batch is not None and shape and shape[:1] == leading else shape
        tensors.append(_resized(example, given.get(name, batched)))
    return tuple(tensors)


def _arguments(source: str, module: torch.nn.Module, examples: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    [first, *rest] = examples
    if rest and not (isinstance(first, (tuple, list)) and isinstance(rest[0], Mapping)):
        raise ModelError(source, "the callable returns three values", "they are a module, a tuple and a dict of inputs")
    if isinstance(first, Mapping) and not hasattr(first, "to_tuple"):
        return (), dict(first)
    if not isinstance(first, (torch.Tensor, tuple, list)):
        raise ModelError(
            source, f"the example inputs are a {type(first).__name__}", "give a tensor, a tuple of arguments or a dict"
        )
    args = (first,) if isinstance(first, torch.Tensor) else tuple(first)
    kwargs = dict(rest[0]) if rest else {}
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return args, kwargs
    most = sum(parameter.kind in _POSITIONAL for parameter in parameters)
    keywords = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    free = [name for name in keywords if name not in kwargs]
    return args[:most], dict(zip(free, args[most:], strict=False)) | kwargs


def _positional_names(module: torch.nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(module.forward).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind in _POSITIONAL][:count]
    return names + [f"arg{index}" for index in range(len(names), count)]


def _name(path: Sequence[Any], parameters: Sequence[str]) -> str:
    """`images_0`: the parameter, then the way to the tensor within it."""
    side, first, *rest = path
    root = parameters[first.idx] if side.idx == 0 else str(first.key)
    parts = [str(getattr(step, "idx", getattr(step, "key", getattr(step, "name", "")))) for step in rest]
    return re.sub(r"\W", "_", "_".join([root, *parts]))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(result)


def _resized(example: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A tensor of another shape: random when floating, else the example repeated (so ids stay in the vocabulary)."""
    if tuple(example.shape) == tuple(shape):
        return example
    if example.is_floating_point() or example.is_complex():
        return torch.randn(tuple(shape)).to(example.dtype)
    count = int(torch.Size(shape).numel())
    flat = example.reshape(-1)
    return flat.repeat(-(-count // max(1, flat.numel())))[:count].reshape(tuple(shape))
