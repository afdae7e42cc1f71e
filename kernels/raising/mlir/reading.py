"""MLIR as text becomes a checked module of xDSL, with forms of operations that xDSL does not read itself.

Nothing of it is ever run. `read` may take long on hostile input: call it in a confined child.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from xdsl.context import Context
from xdsl.dialects import affine, arith, builtin, func, linalg, math, memref, scf, tensor
from xdsl.dialects.builtin import DenseArrayBase, IndexType, ModuleOp, i64
from xdsl.dialects.linalg import ops as linalg_ops
from xdsl.ir import Attribute, Block, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    opt_region_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.utils.exceptions import DiagnosticException, ParseError

from kernels.raising.mlir.named import NAMED
from kernels.raising.reasons import MalformedIr

_WITH_BODY = ("map", "reduce")
_SHAPED = ("transpose", "broadcast", "reduce", "map")
"""Operations whose results have the types of `outs`."""


class Structured(IRDLOperation):
    """An operation of linalg with ins, outs and results: named, map, reduce, transpose or broadcast."""

    ins = var_operand_def()
    outs = var_operand_def()
    res = var_result_def()
    body = opt_region_def()

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @classmethod
    def parse(cls, parser: Parser) -> Structured:
        word = cls.name.removeprefix("linalg.")
        attributes: dict[str, Attribute] = {}
        region = None
        inner = _shorthand(parser) if word in _WITH_BODY else None
        if inner is None:
            attributes |= parser.parse_optional_attr_dict()
        if parser.parse_optional_keyword("indexing_maps") is not None:
            parser.parse_punctuation("=")
            attributes["indexing_maps"] = parser.parse_attribute()
        ins, outs = _operands(parser, "ins"), _operands(parser, "outs")
        for key in ("dimensions", "permutation"):
            if parser.parse_optional_keyword(key) is not None:
                parser.parse_punctuation("=")
                numbers = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
                attributes[key] = DenseArrayBase.from_list(i64, numbers)
        if word in _WITH_BODY:
            region = _body_of(inner, ins, outs, word) if inner else _region(parser)
        attributes |= parser.parse_optional_attr_dict()
        types: Sequence[Attribute] = [value.type for value in outs if isinstance(value.type, builtin.TensorType)]
        if word not in _SHAPED:
            types = _results(parser)
        elif parser.parse_optional_punctuation("->") is not None:
            types = _types(parser)
        return cls.create(
            operands=[*ins, *outs], result_types=types, attributes=attributes, regions=[region] if region else [],
            properties={"operandSegmentSizes": DenseArrayBase.from_list(builtin.i32, [len(ins), len(outs)])},
        )  # fmt: skip


def _operands(parser: Parser, word: str) -> Sequence[SSAValue]:
    if parser.parse_optional_keyword(word) is None:
        return ()
    begin = parser.pos
    parser.parse_punctuation("(")
    names = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_unresolved_operand)
    parser.parse_punctuation(":")
    types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
    parser.parse_punctuation(")")
    return parser.resolve_operands(names, types, begin)


def _results(parser: Parser) -> Sequence[Attribute]:
    return [] if parser.parse_optional_punctuation("->") is None else _types(parser)


def _types(parser: Parser) -> Sequence[Attribute]:
    several = parser.parse_optional_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
    if several is not None:
        return several
    return parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)


def _shorthand(parser: Parser) -> tuple[str, dict[str, Attribute]] | None:
    """`{ arith.addf }`: the operation that a map or reduction applies."""
    if parser.parse_optional_punctuation("{") is None:
        return None
    name = parser.parse_identifier()
    attributes = parser.parse_optional_attr_dict()
    parser.parse_punctuation("}")
    return name, attributes


def _region(parser: Parser) -> Region:
    arguments = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_argument)
    return parser.parse_region(arguments)


def _body_of(
    inner: tuple[str, dict[str, Attribute]], ins: Sequence[SSAValue], outs: Sequence[SSAValue], word: str
) -> Region:
    """The region that a shorthand stands for: the operation of the inputs, for a reduction of the output, too."""
    name, attributes = inner
    kind = _CONTEXT.get_optional_op(name)
    if kind is None:
        raise DiagnosticException(f"Operation {name} is not registered")
    types = [getattr(value.type, "element_type", value.type) for value in (*ins, *outs)]
    block = Block(arg_types=types)
    used = list(block.args) if word == "reduce" else list(block.args[: len(ins)])
    made = kind.create(operands=used, result_types=[types[-1]], properties=attributes)
    block.add_ops([made, linalg_ops.YieldOp(made.results[0])])
    return Region(block)


class _Parallel(scf.ParallelOp):
    """With the form that MLIR prints."""

    @classmethod
    def parse(cls, parser: Parser) -> _Parallel:
        index = IndexType()
        counters = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, lambda: parser.parse_argument(expect_type=False)
        )
        groups: list[list[SSAValue]] = []
        for word in ("=", "to", "step"):
            parser.parse_characters(word)
            begin = parser.pos
            names = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_unresolved_operand)
            groups.append(list(parser.resolve_operands(names, [index] * len(names), begin)))
        starts: Sequence[SSAValue] = ()
        types: Sequence[Attribute] = []
        if parser.parse_optional_keyword("init") is not None:
            begin = parser.pos
            names = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_unresolved_operand)
            types = _results(parser)
            starts = parser.resolve_operands(names, types, begin)
        body = parser.parse_region([counter.resolve(index) for counter in counters])
        parser.parse_optional_attr_dict()
        if body.blocks and (body.block.last_op is None or body.block.last_op.name != "scf.reduce"):
            body.block.add_op(scf.ReduceOp())
        return cls(groups[0], groups[1], groups[2], body, list(starts))


_NAMES = (*NAMED, *_SHAPED)


def _dialects() -> list[Dialect]:
    structured: list[type[Operation]] = [
        irdl_op_definition(type(f"Linalg_{word}", (Structured,), {"name": f"linalg.{word}", "__module__": __name__}))
        for word in _NAMES
    ]
    basic: list[type[Operation]] = [linalg_ops.GenericOp, linalg_ops.YieldOp, linalg_ops.IndexOp]
    loops = [op for op in scf.Scf.operations if op.name != "scf.parallel"]
    return [
        builtin.Builtin, affine.Affine, arith.Arith, func.Func, math.Math, memref.MemRef, tensor.Tensor,
        Dialect("linalg", [*basic, *structured], list(linalg.Linalg.attributes)),
        Dialect("scf", [*loops, _Parallel], list(scf.Scf.attributes)),
    ]  # fmt: skip


_CONTEXT = Context()
for _dialect in _dialects():
    _CONTEXT.load_dialect(_dialect)


class _Parser(Parser):
    """Notes at which line each operation begins."""

    def __init__(self, text: str) -> None:
        super().__init__(_CONTEXT, text, "<file>")
        self.lines: dict[Operation, int] = {}
        self._text = text

    def parse_operation(self) -> Operation:
        begin = self.pos
        operation = super().parse_operation()
        self.lines[operation] = self._text.count("\n", 0, begin) + 1
        return operation


def read(text: str) -> tuple[ModuleOp, dict[Operation, int]]:
    """A verified module, and the line of each operation. Raises MalformedIr: one line, with line and column."""
    if not re.sub(r"//[^\n]*", "", text).strip():
        return ModuleOp([]), {}
    parser = None
    try:
        parser = _Parser(text)
        module = parser.parse_module()
    except ParseError as error:
        raise MalformedIr(f"{_place(text, error.span.start)}: {_plain(error.msg)}") from error
    except RecursionError as error:
        raise MalformedIr("nested too deeply") from error
    except Exception as error:  # what the library says of a form that it does not expect is of any type
        place = _place(text, parser.pos if parser else 0)
        raise MalformedIr(f"{place}: {_plain(str(error) or type(error).__name__)}") from error
    for operation in module.walk():
        try:
            operation.verify(verify_nested_ops=False)
        except Exception as error:
            words = _plain(str(getattr(error, "args", [""])[0] or error))
            raise MalformedIr(f"line {parser.lines.get(operation, 1)}:1: {operation.name}: {words}") from error
    return module, parser.lines


def _place(text: str, position: int) -> str:
    before = text[:position]
    return f"line {before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def _plain(message: Any) -> str:
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return (lines[0] if lines else "unreadable")[:300]
