"""An exported PyTorch program as relax, by TVM's converters and our own; errors name the module and its line."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tuner.errors import ModelError
from tuner.importers.pytorch.converters import CONVERTERS
from tuner.importers.pytorch.errors import gist, is_users, placed
from tuner.importers.pytorch.export import quietly

_CONVERTER_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What converters raise for a node they cannot take; tvm.error's own are RuntimeErrors."""


def to_relax(program: torch.export.ExportedProgram, source: str) -> Any:
    """An exported program as relax, its weights as constants.

    Raises ModelError naming the operators that have no converter, or the node that one cannot take.
    """
    decomposed = _decomposed(program, source)
    importer = _Importer(source)
    calls = [node for node in decomposed.graph.nodes if node.op == "call_function"]
    unknown = {_operator(node): node for node in reversed(calls) if node.target.__name__ not in importer.convert_map}
    if unknown:
        described = ", ".join(described_node(unknown[name]) for name in sorted(unknown))
        raise ModelError(source, f"TVM does not support the operator {described}")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importer.from_exported_program(decomposed, False, True, False, None)
        except _CONVERTER_ERRORS as error:
            with contextlib.suppress(Exception):  # a builder that dies with open blocks prints a warning
                importer.block_builder._end_block()  # noqa: SLF001
            raise ModelError(source, f"TVM cannot convert it: {gist(error)}") from error


def described_node(node: torch.fx.Node) -> str:
    """`aten.add.Tensor of the module layers.0 (net.py, line 7: return x + y)`."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = re.sub(r"^(L\['self'\]\.?)?(inner\.?)?", "", str(stack[-1][0])) if stack else ""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    lines = [placed(file, int(line)) for file, line in frames if is_users(file)]
    where = f" of the module {path}" if path else ""
    return f"{_operator(node)}{where}{f' ({lines[-1]})' if lines else ''}"


class _Importer(ExportedProgramImporter):  # type: ignore[misc]
    """TVM's importer, with our converters before its own, which says at which node it stopped."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source
        ours = {name: self._with_self(convert) for name, convert in CONVERTERS.items()}
        self.convert_map: dict[str, Callable[[Any], Any]] = {
            name: self._named(convert) for name, convert in {**self.convert_map, **ours}.items()
        }

    def _with_self(self, convert: Callable[..., Any]) -> Callable[[Any], Any]:
        return lambda node: convert(node, self)

    def _named(self, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(node: torch.fx.Node) -> Any:
            try:
                result = convert(node)
            except _CONVERTER_ERRORS as error:
                raise ModelError(
                    self._source, f"TVM cannot convert the operator {described_node(node)}: {gist(error)}"
                ) from error
            if why := _differs(node, result):
                raise ModelError(self._source, f"TVM converts the operator {described_node(node)} wrongly: {why}")
            return result

        return run


def _decomposed(program: torch.export.ExportedProgram, source: str) -> torch.export.ExportedProgram:
    try:
        with quietly(), torch.no_grad():
            decomposed: torch.export.ExportedProgram = program.run_decompositions()
            _drop_unread(decomposed.graph)
            return decomposed
    except Exception as error:
        raise ModelError(source, f"torch cannot decompose it: {gist(error)}") from error


def _drop_unread(graph: torch.fx.Graph) -> None:
    """Remove what no output needs. What asserts a type or a shape is true for the inputs that the program was made of,
    and keeps alive what it looks at."""
    for node in [n for n in graph.nodes if n.target is torch.ops.aten._assert_tensor_metadata.default]:  # noqa: SLF001
        graph.erase_node(node)
    graph.eliminate_dead_code()


def _differs(node: torch.fx.Node, result: Any) -> str:
    """How the tensor that a converter made differs in shape or type from what torch makes; "" where it does not."""
    made, kind = node.meta.get("val"), getattr(result, "ty", None)
    if not isinstance(made, torch.Tensor) or not isinstance(kind, relax.TensorType) or kind.shape is None:
        return ""
    dtype, shape = str(made.dtype).removeprefix("torch."), list(made.shape)
    if str(kind.dtype) != dtype:
        return f"{kind.dtype} instead of {dtype}"
    try:
        extents = [int(extent) for extent in kind.shape]
    except TypeError:
        return "its shape is not known"
    return f"the shape {extents} instead of {shape}" if extents != shape else ""


def _operator(node: torch.fx.Node) -> str:
    return str(node.target)
