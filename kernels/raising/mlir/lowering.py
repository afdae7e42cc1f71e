"""A module of MLIR as LLVM IR with the plainest loops: what `kernels.raising` then reads as it reads C.

A memref or tensor argument is a bare pointer to rows one behind the other, followed by an i64 for each `?` of its
shape, named after it (`A`, `A_0`, `A_1`). A tensor that is returned becomes a pointer argument at the end (`out0`),
which the function fills. With static shapes this is MLIR's own bare-pointer calling convention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.dialects import func
from xdsl.dialects.builtin import MemRefType, ModuleOp, TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from kernels.raising.mlir import control, structured, views
from kernels.raising.mlir.buffers import Buffer, dense, kind_of, layout_of, shape_of
from kernels.raising.mlir.code import Code, Locations, Words
from kernels.raising.mlir.operations import Operations
from kernels.raising.mlir.reading import read
from kernels.raising.reasons import Abstained, Reason

_DECLARED = re.compile(r"call(?: [a-z]+)* (\w+) (@[\w.]+)\(([^)]*)\)")
_USABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEPT = 1 << 20


@dataclass(frozen=True)
class Lowered:
    """`text`: LLVM IR of the functions that could be lowered; `problems`: why others could not, by name."""

    text: str
    problems: tuple[tuple[str, Abstained], ...]


def lowered(text: str, only: str = "") -> Lowered:
    """All functions, or one of this name. Raises MalformedIr."""
    module, lines = read(text)
    locations = Locations()
    functions: list[str] = []
    problems: list[tuple[str, Abstained]] = []
    for op in _functions(module):
        name = op.sym_name.data
        if only not in ("", name):
            continue
        try:
            functions.append(_Function(op, lines, locations).run())
        except Abstained as problem:
            problems.append((name, Abstained(problem.reason, problem.detail, problem.line or lines.get(op))))
        except RecursionError:
            problems.append((name, Abstained(Reason.LARGE, "operations nested too deeply", lines.get(op))))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # what the verifier lets through and nobody has seen yet: it is left alone, as in `findings.analyse`
            words = f"a form that is not read ({type(error).__name__})"
            problems.append((name, Abstained(Reason.UNREAD, words, lines.get(op))))
    body = "\n".join(functions)
    return Lowered("\n".join([body, *_declarations(body), locations.text(), ""]), tuple(problems))


def _functions(module: ModuleOp) -> Iterator[func.FuncOp]:
    for op in module.walk():
        if isinstance(op, func.FuncOp) and op.body.blocks and op.body.blocks[0].ops:
            yield op


def _declarations(text: str) -> list[str]:
    found: dict[str, str] = {}
    for kind, name, arguments in _DECLARED.findall(text):
        kinds = ", ".join(part.split()[0] for part in arguments.split(", ") if part)
        found[name] = f"declare {kind} {name}({kinds})"
    if "@free(" in text:
        found["@free"] = "declare void @free(ptr)"
    return list(found.values())


class _Function:
    def __init__(self, op: func.FuncOp, lines: dict[Operation, int], locations: Locations) -> None:
        self._op = op
        self._name = op.sym_name.data
        self._scope = locations.scope(lines.get(op, 0))
        self._code = Code(locations, self._scope)
        self._code.line = lines.get(op, 0)
        self._arguments: list[str] = []
        self._taken: set[str] = set()
        self._operations = Operations(self._code, lines, self._homes())
        for room in (control, structured, views):
            self._operations.handlers |= room.handlers(self._operations)

    def run(self) -> str:
        if len(self._op.body.blocks) != 1:
            raise Abstained(Reason.CONTROL, "branches between blocks")
        if not re.fullmatch(r"[\w.$-]+", self._name, re.ASCII):
            raise Abstained(Reason.UNREAD, f"a function named {self._name[:40]}")
        values = self._operations.values
        for number, argument in enumerate(self._op.body.block.args):
            values[argument] = self._argument(argument.type, self._called(argument.name_hint, f"arg{number}"))
        returned = self._op.body.block.last_op
        assert returned is not None
        results = list(returned.operands)
        tensors = [value for value in results if isinstance(value.type, TensorType)]
        plain = [value for value in results if not isinstance(value.type, TensorType)]
        if len(plain) > 1 or any(isinstance(value.type, MemRefType) for value in plain):
            raise Abstained(Reason.TYPE, "results other than tensors and one scalar")
        for number in range(len(tensors)):
            self._arguments.append(f"ptr {self._called(f'out{number}', f'result{number}')}")
            self._operations.outputs.append(self._arguments[-1].split()[1])
        self._operations.block(self._op.body.block)
        self._finish(tensors)
        result = kind_of(plain[0].type) if plain else "void"
        words = f" {self._operations.word(plain[0])}" if plain else ""
        self._code.do(f"ret {result}{words}")
        header = f"define {result} @{self._name}({', '.join(self._arguments)}) !dbg !{self._scope} {{"
        return "\n".join([header, *self._code.text, "}", ""])

    def _finish(self, tensors: list[SSAValue]) -> None:
        """Copy what is not in its place yet, and give back memory."""
        for pointer, value in zip(self._operations.outputs, tensors, strict=True):
            buffer = self._operations.buffer(value)
            if buffer.pointer != pointer:
                target = dense(self._code, pointer, buffer.sizes, buffer.kind)
                self._operations.copy(buffer, target)
        for pointer in self._operations.made:
            self._code.do(f"call void @free(ptr {pointer})")

    # --- arguments

    def _called(self, hint: str | None, otherwise: str) -> Words:
        """A name of its own."""
        name = hint if hint and _USABLE.fullmatch(hint) else otherwise
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return f"%{name}"

    def _argument(self, type_: Attribute, name: Words) -> Words | Buffer:
        shape = shape_of(type_)
        if shape is None:
            self._arguments.append(f"{kind_of(type_)} {name}")
            return name
        kind = kind_of(type_.get_element_type())  # type: ignore[attr-defined]
        self._arguments.append(f"ptr {name}")
        sizes = []
        for dimension, extent in enumerate(shape):
            if extent < 0:
                size = self._called(f"{name[1:]}_{dimension}", "")
                self._arguments.append(f"i64 {size}")
                sizes.append(size)
            else:
                sizes.append(str(extent))
        layout = layout_of(type_)
        if layout is None:
            return dense(self._code, name, sizes, kind)
        return Buffer(name, str(layout[0]), tuple(sizes), tuple(map(str, layout[1])), kind)

    def _homes(self) -> dict[SSAValue, int]:
        """Which tensors can be made where the caller wants a result: those that become it, one from the other."""
        returned = self._op.body.blocks[0].last_op
        found: dict[SSAValue, int] = {}
        tensors = [v for v in (returned.operands if returned else ()) if isinstance(v.type, TensorType)]
        for number, result in enumerate(tensors):
            value: SSAValue | None = result
            while value is not None and value.has_one_use() and isinstance(value.owner, Operation):
                found[value] = number
                value = _becomes(value.owner, value)
        return found


def _becomes(op: Operation, result: SSAValue) -> SSAValue | None:
    """The operand that a result is written over."""
    if op.name == "tensor.insert_slice":
        return op.operands[1]
    outs = getattr(op, "outs", None) or getattr(op, "outputs", None)
    if not op.name.startswith("linalg.") or outs is None:
        return None
    return outs[list(op.results).index(result)] if len(outs) == len(op.results) else None  # type: ignore[arg-type]
