"""A raised function as MLIR: a func.func on tensors with a linalg.generic for each operation.

Arrays are tensors with their rows as last dimensions; what is accessed of one is cut out of it, where it is not all.
Where a function writes an array, the new content is a result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kernels.raising.access import Element
from kernels.raising.expressions import Expr
from kernels.raising.findings import Analysis
from kernels.raising.memory import CELL, RESULT
from kernels.raising.mlir.extents import backward_counters, box_of, forward, members, reaches_same
from kernels.raising.mlir.writing import COMBINED, TYPES, Text, Values, choice, fast, number
from kernels.raising.ops import elements
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import ONE, ZERO, Poly
from kernels.raising.reasons import Abstained, Reason


def emitted(analysis: Analysis) -> str:
    """The function as text of MLIR. Raises Abstained where it is not wholly understood, or has what linalg has not."""
    if analysis.problem is not None:
        raise analysis.problem
    if not analysis.operations:
        raise Abstained(Reason.NO_STORE, "nothing is stored")
    for op in analysis.operations:
        if op.fixed or op.steps or op.choice:
            words = f"linalg has no operation for {op.combine or 'loops in order'}"
            raise Abstained(Reason.SEQUENTIAL, words, op.line)
    return _Function(analysis).run()


@dataclass(frozen=True)
class _Tensor:
    """`sizes` of its dimensions; `name` its present version. `exact`: it was made with these sizes, which else the
    caller promises."""

    name: str
    sizes: tuple[Poly, ...]
    kind: str
    exact: bool = True

    @property
    def type(self) -> str:
        return tensor_type(self.sizes, self.kind)


def tensor_type(sizes: Sequence[Poly], kind: str) -> str:
    extents = "".join("?x" if size.constant is None else f"{size.constant}x" for size in sizes)
    return f"tensor<{extents}{TYPES[kind]}>"


class _Function:
    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        assert analysis.accesses is not None
        self._accesses = analysis.accesses
        back = backward_counters(analysis.operations, self._accesses.polyhedra)
        self._ops = [forward(op, back, self._accesses.polyhedra) for op in analysis.operations]
        self._labels = {a.name: f"%{_word(a.label, number)}" for number, a in enumerate(analysis.function.arguments)}
        self._text = Text(self._labels)
        self._boxes = [box_of(op, self._accesses.polyhedra) for op in self._ops]
        self._rows = self._rows_of()
        self._current: dict[str, _Tensor] = {}
        self._op, self._box = self._ops[0], self._boxes[0]

    def run(self) -> str:
        parameters = []
        for argument in self._analysis.function.arguments:
            label = self._labels[argument.name]
            if argument.type == "ptr":
                if argument.name in self._rows:
                    tensor = self._declared(argument.name, label)
                    self._current[argument.name] = tensor
                    parameters.append(f"{label}: {tensor.type}")
            else:
                parameters.append(f"{label}: {'index' if argument.type.startswith('i') else TYPES[argument.type]}")
        for op, box in zip(self._ops, self._boxes, strict=True):
            self._op, self._box = op, box
            self._operation()
        written = list(dict.fromkeys(op.target.base for op in self._ops))
        results = [self._current[base] for base in written if base in self._labels]
        words = [(t.name, t.type) for t in results]
        if RESULT in written:
            scalar = self._text.value(f"tensor.extract {self._current[RESULT].name}[] : {self._current[RESULT].type}")
            words.insert(0, (scalar, TYPES[self._current[RESULT].kind]))
        types = ", ".join(kind for _, kind in words)
        self._text.do(f"return {', '.join(name for name, _ in words)} : {types}")
        name = _word(self._analysis.function.name, 0)
        head = f"func.func @{name}({', '.join(parameters)}) -> ({types}) {{"
        return "\n".join([head, *self._text.lines, "}"])

    # --- arrays

    def _rows_of(self) -> dict[str, list[Poly]]:
        """The extents of first dimensions that accesses need, by array."""
        rows: dict[str, list[Poly]] = {}
        for op, box in zip(self._ops, self._boxes, strict=True):
            for element in [op.target, *op.reads]:
                reached = box.reach(element.subscripts[0]) + 1 if element.subscripts else ONE
                rows.setdefault(element.base, []).append(reached)
        return rows

    def _declared(self, base: str, name: str) -> _Tensor:
        if base == RESULT:
            return _Tensor(name, (), self._analysis.function.result)
        needed = list(dict.fromkeys(self._rows[base]))
        constants = [poly.constant for poly in needed]
        known = [c for c in constants if c is not None]
        first = Poly.of(max(known)) if len(known) == len(needed) else needed[0] if len(needed) == 1 else Poly.of("?")
        array = self._accesses.arrays[base]
        sizes = (first, *array.extents)
        return _Tensor(name, sizes, array.type, all(size.constant is not None for size in sizes))

    def _sizes_of_cell(self) -> tuple[Poly, ...]:
        return tuple(self._box.last(poly) + 1 for poly in self._op.target.subscripts)

    def _tensor(self, base: str) -> _Tensor:
        """The present content of an array; nothing in particular where nothing was written yet."""
        if base not in self._current:
            if base.startswith(CELL):
                found = _Tensor("", self._sizes_of_cell(), self._op.type)
            elif base == RESULT or base.startswith("%"):
                found = self._declared(base, "")
            else:
                raise Abstained(Reason.POINTER, "a global array")
            self._current[base] = self._empty(found.sizes, found.kind)
        return self._current[base]

    def _empty(self, sizes: Sequence[Poly], kind: str) -> _Tensor:
        dynamic = ", ".join(self._text.index(size) for size in sizes if size.constant is None)
        return _Tensor(
            self._text.value(f"tensor.empty({dynamic}) : {tensor_type(sizes, kind)}"), tuple(sizes), kind
        )  # fmt: skip

    # --- windows

    def _window(self, element: Element, tensor: _Tensor, target: bool) -> tuple[str, _Tensor]:
        """The brackets of the part of a tensor that an access reaches, and that part under no name; no brackets for the
        whole. Dimensions without counters are left out.
        """
        offsets, sizes, steps, kept = [], [], [], []
        for poly in element.subscripts:
            inside = self._box.inside(poly)
            step = self._box.factor(poly, inside[0]) if target and len(inside) == 1 else 1
            if step < 1:
                raise Abstained(Reason.SUBSCRIPT, "a result that is written backwards", self._op.line)
            size = self._box.size(inside[0]) if target and len(inside) == 1 else self._box.span(poly)
            offsets.append(self._box.first(poly))
            sizes.append(size)
            steps.append(step)
            if inside:
                kept.append(size)
        whole = (
            len(kept) == len(sizes) and all(step == 1 for step in steps) and offsets == [ZERO] * len(offsets)
            and tuple(sizes) == tensor.sizes
        )  # fmt: skip
        if whole:
            return "", tensor
        return self._brackets(offsets, sizes, steps), _Tensor("", tuple(kept), tensor.kind)

    def _brackets(self, offsets: Sequence[Poly], sizes: Sequence[Poly], steps: Sequence[int]) -> str:
        words = [", ".join(map(self._extent, some)) for some in (offsets, sizes)]
        return f"[{words[0]}] [{words[1]}] [{', '.join(map(str, steps))}]"

    def _extent(self, poly: Poly) -> str:
        return str(poly.constant) if poly.constant is not None else self._text.index(poly)

    def _cut(self, element: Element, target: bool = False) -> _Tensor:
        tensor = self._tensor(element.base)
        brackets, part = self._window(element, tensor, target)
        if not brackets and tensor.exact:
            return tensor
        brackets = brackets or self._brackets([ZERO] * len(tensor.sizes), tensor.sizes, [1] * len(tensor.sizes))
        name = self._text.value(f"tensor.extract_slice {tensor.name}{brackets} : {tensor.type} to {part.type}")
        return _Tensor(name, part.sizes, part.kind)

    def _put(self, part: _Tensor) -> None:
        """Make a part the new content of what the operation writes."""
        base = self._op.target.base
        tensor = self._tensor(base)
        brackets, _ = self._window(self._op.target, tensor, True)
        name = part.name
        if brackets:
            name = self._text.value(f"tensor.insert_slice {name} into {tensor.name}{brackets} : {part.type} into "
                                    f"{tensor.type}")  # fmt: skip
        self._current[base] = _Tensor(name, tensor.sizes, tensor.kind, tensor.exact or not brackets)

    # --- operations

    def _operation(self) -> None:
        op, box = self._op, self._box
        own = [box.inside(poly) for poly in op.target.subscripts]
        if sorted(c for inside in own for c in inside) != sorted(op.kept) or any(len(inside) > 1 for inside in own):
            raise Abstained(Reason.SUBSCRIPT, "a result whose subscripts are no plain counters", op.line)
        if not box.is_whole_cover and not reaches_same(op.target, op, box, self._accesses.polyhedra):
            raise Abstained(Reason.SIZES, "a result that ends at one of several places", op.line)
        lines = f", line {op.lines[0]}" if op.lines else ""
        self._text.do(f"// {op.combine or 'map'}{lines}")
        kept = op.kept
        if not op.combine:
            before = self._cut(op.target, True)
            guard = None if box.is_whole_cover else box.cover
            self._put(self._generic(kept, (), op.value, before, guard, None))
            return
        old = self._cut(op.target, True) if op.start is None or not box.is_whole_cover else None
        start: _Tensor | None = old if op.start is None else self._started(op.start, kept)
        assert start is not None
        guard = None if box.is_whole else box.domain
        result = self._generic(kept, op.reduced, op.value, start, guard, op.combine)
        if op.finish is not None:
            result = self._generic(kept, (), op.finish, self._empty(result.sizes, result.kind), None, None, result)
        if not box.is_whole_cover and op.start is not None:
            assert old is not None
            value = Expr("accumulated", op.type)
            result = self._generic(kept, (), value, old, box.cover, None, result)
        self._put(result)

    def _started(self, start: Expr, kept: Sequence[str]) -> _Tensor:
        sizes = [self._box.size(self._box.inside(p)[0]) for p in self._op.target.subscripts if self._box.inside(p)]
        empty = self._empty(sizes, self._op.type)
        if start.op != "const":
            return self._generic(kept, (), start, empty, None, None)
        value = self._text.value(f"arith.constant {number(start.value, self._op.type)}")
        kind = TYPES[self._op.type]
        filled = self._text.value(
            f"linalg.fill ins({value} : {kind}) outs({empty.name} : {empty.type}) -> {empty.type}"
        )  # fmt: skip
        return _Tensor(filled, empty.sizes, empty.kind)

    def _generic(
        self, kept: Sequence[str], reduced: Sequence[str], value: Expr, out: _Tensor, guard: isl.Set | None,
        combine: str | None, done: _Tensor | None = None,
    ) -> _Tensor:  # fmt: skip
        """One linalg.generic. `guard`: the iterations that count, None for all; `done`: what `accumulated` in the value
        stands for."""
        op, box = self._op, self._box
        order = [*kept, *reduced]
        wanted = [e for e in dict.fromkeys(elements(value)) if self._is_mapped(e, value, guard, order)]
        operands = [(self._cut(e), _map(order, [box.local(p) for p in e.subscripts if box.inside(p)])) for e in wanted]
        target = _map(order, [Poly.of(box.inside(p)[0]) for p in op.target.subscripts if box.inside(p)])
        if done is not None:
            operands.append((done, target))
        covered = {c for _, text in [*operands, (out, target)] for c, name in zip(order, _dims(order), strict=True)
                   if name in text.partition("->")[2].strip(" ()").split(", ")}  # fmt: skip
        missing = [c for c in order if c not in covered]
        if missing:
            window = self._empty([box.size(c) for c in missing], "i8")
            operands.append((window, _map(order, [Poly.of(c) for c in missing])))
        lines = self._body(order, wanted, value, operands, out, guard, combine, done)
        maps = ", ".join(f"affine_map<{text}>" for text in [*(m for _, m in operands), target])
        kinds = ", ".join(['"parallel"'] * len(kept) + ['"reduction"'] * len(reduced))
        given = f"{', '.join(t.name for t, _ in operands)} : {', '.join(t.type for t, _ in operands)}"
        ins = f" ins({given})" if operands else ""
        name = self._text.value(f"linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}{ins} "
                                f"outs({out.name} : {out.type}) {{")  # fmt: skip
        self._text.lines += lines
        self._text.do(f"}} -> {out.type}")
        return _Tensor(name, out.sizes, out.kind)

    def _body(
        self, order: Sequence[str], wanted: Sequence[Element], value: Expr, operands: Sequence[tuple[_Tensor, str]],
        out: _Tensor, guard: isl.Set | None, combine: str | None, done: _Tensor | None,
    ) -> list[str]:  # fmt: skip
        op, box = self._op, self._box
        text = self._text.inside()
        text.taken[0] += 1
        prefix = f"%e{text.taken[0]}_"
        names = {element: f"{prefix}{position}" for position, element in enumerate(wanted)}
        reduced = f"{prefix}{len(wanted)}" if done is not None else ""
        arguments = [f"{prefix}{k}: {TYPES[t.kind]}" for k, (t, _) in enumerate(operands)]
        arguments.append(f"{prefix}o: {TYPES[out.kind]}")
        own = f"{prefix}o"
        counters = {c: _counter(text, number, box.low[c]) for number, c in enumerate(order)}

        def element(inner: Text, read: Element) -> str:
            if read in names:
                return names[read]
            tensor = self._tensor(read.base)
            places = ", ".join(inner.index(p, counters) for p in read.subscripts)
            return inner.value(f"tensor.extract {tensor.name}[{places}] : {tensor.type}")

        values = Values(text, element, counters)

        def new(inner: Text) -> str:
            found = values.of(value, inner, reduced)
            if combine is None:
                return found
            is_float = op.type in ("float", "double")
            flags = fast(frozenset({"reassoc"})) if combine in ("add", "mul") and is_float and op.reordered else ""
            return inner.value(f"{COMBINED[combine][not is_float]} {own}, {found}{flags} : {TYPES[op.type]}")

        if guard is None:
            result = new(text)
        else:
            condition = values.condition(members(guard, box, op.kept if guard is box.cover else op.loops), text)
            result = choice(text, condition, TYPES[out.kind], new, lambda inner: own)
        text.do(f"linalg.yield {result} : {TYPES[out.kind]}")
        used = "\n".join(text.lines)
        text.lines = [line for line in text.lines if not _is_unused(line, used)]
        return ["  " * self._text.depth + f"^bb0({', '.join(arguments)}):", *text.lines]

    def _is_mapped(self, element: Element, value: Expr, guard: isl.Set | None, order: Sequence[str]) -> bool:
        """Whether an element can be an operand: its subscripts only grow, and stay in the array in the whole box."""
        box = self._box
        for poly in element.subscripts:
            inside = box.inside(poly)
            if any(c not in order or (box.factor(poly, c) or 0) < 1 for c in inside):
                return False
            if not inside and poly.constant is None and any(s not in self._labels for s in poly.symbols):
                return False
        if _is_conditional(value, element):
            return False
        return guard is None or reaches_same(element, self._op, box, self._accesses.polyhedra)


def _counter(text: Text, number: int, low: Poly) -> str:
    found = text.value(f"linalg.index {number} : index")
    return found if low == ZERO else text.value(f"arith.addi {found}, {text.index(low)} : index")


def _is_unused(line: str, text: str) -> bool:
    """Whether a line makes a counter that nobody uses."""
    name = line.strip().partition(" = ")[0]
    return "linalg.index" in line and len(re.findall(rf"{name}\b", text)) == 1


def _is_conditional(value: Expr, element: Element) -> bool:
    """Whether an element is read only where a condition of counters holds."""
    if value.op == "select" and value.value.is_affine and any(element in elements(arg) for arg in value.args):
        return True
    return any(_is_conditional(arg, element) for arg in value.args)


def _dims(order: Sequence[str]) -> list[str]:
    return [f"d{number}" for number in range(len(order))]


def _map(order: Sequence[str], polys: Sequence[Poly]) -> str:
    dims = dict(zip(order, _dims(order), strict=True))
    results = [" + ".join(dims[m[0]] if f == 1 else f"{dims[m[0]]} * {f}" for m, f in poly.terms) for poly in polys]
    return f"({', '.join(_dims(order))}) -> ({', '.join(results)})"


def _word(label: str, number: int) -> str:
    return label if label.isidentifier() and label.isascii() else f"arg{number}"
