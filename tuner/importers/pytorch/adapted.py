"""Any module as one that takes tensors in a row, and returns one tensor or a tuple of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tuner.errors import ModelError
from tuner.importers.pytorch.errors import guarded
from tuner.importers.pytorch.inputs import CallLayout, Tensors


class Adapted(torch.nn.Module):
    """`inner`, called as `layout` says, with its results flattened to their tensors.

    What numpy cannot hold is another type outside: bfloat16 is float32, which holds each of its values, and complex
    numbers have a last extent of 2, the real and the imaginary part. `written`: the buffers that `inner` writes to;
    each call begins with what they were at first.
    """

    def __init__(self, inner: torch.nn.Module, layout: CallLayout, written: Sequence[str] = ()) -> None:
        super().__init__()
        self.inner = inner
        self.layout = layout
        self.dtypes = tuple(example.dtype for example in layout.tensors)
        self.written = tuple(written)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor | Tensors:
        inside = [_inside(tensor, dtype) for tensor, dtype in zip(tensors, self.dtypes, strict=True)]
        args, kwargs = self.layout.call(inside)
        if self.written:
            buffers = dict(self.inner.named_buffers())
            own = {name: buffers[name].clone() for name in self.written}
            result = torch.func.functional_call(self.inner, own, args, kwargs)
        else:
            result = self.inner(*args, **kwargs)
        found = tuple(outside(tensor) for tensor in tensors_in(result))
        return found[0] if len(found) == 1 else found


def adapted(
    source: str, module: torch.nn.Module, layout: CallLayout, inputs: Tensors
) -> tuple[torch.nn.Module, Tensors, list[str]]:
    """`module`, in an `Adapted` where it needs one; the inputs as they are outside; and what was changed, in words.

    It is called once on `inputs`. Raises ModelError where it fails or returns no tensor."""
    versions = {name: (buffer, buffer._version, buffer.clone()) for name, buffer in module.named_buffers()}  # noqa: SLF001
    args, kwargs = layout.call(inputs)
    result = guarded(source, "the module fails on its example inputs", lambda: module(*args, **kwargs))
    buffers = dict(module.named_buffers())
    written = [
        name for name, (buffer, version, _) in versions.items()
        if buffer._version != version or buffers.get(name) is not buffer  # noqa: SLF001
    ]  # fmt: skip
    for name in written:
        buffer, _, value = versions[name]
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, buffer.copy_(value))
    found = list(tensors_in(result))
    if not found:
        raise ModelError(source, "the module returns no tensor")
    given = tuple(outside(tensor) for tensor in inputs)
    notes = [
        *(f"input {name} is given as {_in_words(old)}"
          for name, old, new in zip(layout.names, inputs, given, strict=True) if new is not old),
        *(f"output {index} is given as {_in_words(tensor)}" for index, tensor in enumerate(found)
          if outside(tensor) is not tensor),
        *(f"the module writes to its buffer {name!r}; each call begins with what it was at first" for name in written),
    ]  # fmt: skip
    others = sorted({type(leaf).__name__ for leaf in _others(result)})
    if others:
        notes.append(f"outputs that are no tensors are left out: {', '.join(others)}")
    if layout.is_plain and not notes and _is_flat(result):
        return module, inputs, []
    return Adapted(module, layout, written).eval(), given, notes


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of a result, in order: of mappings, sequences, dataclasses, and other objects that can be iterated
    over, as caches are."""
    if isinstance(value, torch.Tensor):
        yield value
    else:
        for part in _parts(value):
            yield from tensors_in(part)


def outside(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in a type that numpy has, too."""
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj())
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _inside(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype.is_complex:
        return torch.view_as_complex(tensor)
    return tensor.to(dtype) if dtype == torch.bfloat16 else tensor


def _in_words(tensor: torch.Tensor) -> str:
    return "pairs of real and imaginary parts" if tensor.is_complex() else "float32, for bfloat16"


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if type(value) in pytree.SUPPORTED_NODES and not isinstance(value, (tuple, list)):
        return pytree.tree_leaves(value)
    return list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else []


def _others(value: Any) -> Iterator[Any]:
    """What a result has beside tensors and None."""
    if value is None or isinstance(value, torch.Tensor):
        return
    parts = list(_parts(value))
    if not parts and (isinstance(value, (str, bytes)) or not isinstance(value, Iterable)):
        yield value
    for part in parts:
        yield from _others(part)


def _is_flat(result: Any) -> bool:
    return isinstance(result, torch.Tensor) or (
        isinstance(result, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in result)
    )
