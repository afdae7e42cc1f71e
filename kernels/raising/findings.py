"""What is found in a module: for each loop nest its operations with their patterns, or why it is left alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernels.raising.access import Accesses
from kernels.raising.composites import composite
from kernels.raising.definitions import Requirement
from kernels.raising.distribution import in_order, operations
from kernels.raising.expressions import Condition, both, conjuncts, negated
from kernels.raising.ir import Function
from kernels.raising.joining import joined
from kernels.raising.memory import CELL
from kernels.raising.mirror import without_mirrors
from kernels.raising.ops import Operation
from kernels.raising.patterns import Label, label
from kernels.raising.polyhedra import Polyhedra, isl
from kernels.raising.polynomials import Poly, TooManyTerms
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.trace import Nest, Trace, trace

_ONLY_ORDERED = (Reason.CARRIED, Reason.NAN, Reason.OVERWRITE)
"""Reasons of nests whose every store is known, which may be run as they are."""


@dataclass(frozen=True)
class Finding:
    """One thing found in a function: a pattern with its operations, or a reason. Lines are those of the source."""

    function: str
    pattern: str
    detail: str
    lines: tuple[int, ...]
    reason: str = ""
    shapes: Mapping[str, str] = field(default_factory=dict)
    predicate: str = ""
    sequential: int = 0
    reordered: bool = True
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "function": self.function, "pattern": self.pattern, "detail": self.detail, "lines": list(self.lines),
            "reason": self.reason, "shapes": dict(self.shapes), "predicate": self.predicate,
            "sequential": self.sequential, "reordered": self.reordered,
        }  # fmt: skip


@dataclass
class Analysis:
    """A function's operations, in order, and its findings. `problem`: why the operations are not all that it does.

    Nests that are left alone are among the operations, too, where they can be run as they are.
    """

    function: Function
    findings: list[Finding]
    operations: list[Operation]
    accesses: Accesses | None
    requirements: list[str]
    problem: Abstained | None


def analyse(function: Function) -> Analysis:
    """Never raises for what a function is."""
    try:
        return _Analyser(trace(function)).run()
    except Abstained as found:
        problem = found
    except RecursionError:
        problem = Abstained(Reason.LARGE, "a chain of instructions that is too long to follow", function.line)
    except (IndexError, KeyError, StopIteration, TooManyTerms, ValueError, isl.Error) as error:
        # IR of a form that nobody has written yet: it is left alone, and the finding says at what
        problem = Abstained(Reason.UNREAD, f"a form that is not read ({type(error).__name__})", function.line)
    return Analysis(function, [left_alone(function.name, problem, ())], [], None, [], problem)


class _Analyser:
    def __init__(self, traced: Trace) -> None:
        self.trace, self.function = traced, traced.definitions.function
        bits = {a.name: int(a.type[1:]) for a in self.function.arguments if a.type.startswith("i")}
        bits |= {symbol: width for symbol, (_, _, width) in traced.definitions.opaque.items()}
        self.polyhedra = Polyhedra(bits, traced.bounds)
        self.accesses = Accesses(traced, self.polyhedra)
        self.findings: list[tuple[int, Finding]] = []
        self.barriers = list(traced.barriers)
        self.problem: Abstained | None = None

    def run(self) -> Analysis:
        good = [nest for nest in self.trace.nests if nest.problem is None]
        for nest in good:
            nest.statements = without_mirrors(nest.statements, self.trace.cells)
        for requirement in self.trace.definitions.requirements:
            self._assume(requirement)
        self.accesses.delinearize(good, self.trace.loose)
        failed = {id(r): p for r in self.trace.definitions.requirements if (p := self._proven(r)) is not None}
        self.problem = self.trace.problem or next(iter(failed.values()), None)
        placed = sorted([*self._nests(failed), *self._loose()], key=lambda pair: pair[0])
        found = [op for _, op in placed]
        ops: list[Operation] = []
        for some in self._segments(found):
            together = joined(some, self._is_private)
            self._label(together)
            ops += together
        ordered = [finding for _, finding in sorted(self.findings, key=lambda pair: pair[0])]
        return Analysis(self.function, ordered, ops, self.accesses, self._texts(), self.problem)

    def _is_private(self, base: str) -> bool:
        arguments = self.trace.definitions.arguments
        return base.startswith(CELL) or (base.startswith("%") and base not in arguments)

    def _nests(self, failed: Mapping[int, Abstained]) -> list[tuple[int, Operation]]:
        """The operations of all nests with the nests' places; a finding for each nest that is left alone.

        In a nest they keep the order that dependences ask for, which need not be that of the source.
        """
        found: list[tuple[int, Operation]] = []
        for nest in self.trace.nests:
            try:
                found += [(nest.place, op) for op in self._operations(nest, failed)]
            except Abstained as problem:
                place = found[-1][1].place if found else 0
                self._note(place, left_alone(self.function.name, problem, self._lines(nest)))
                try:
                    found.append((nest.place, self._loops(nest, problem)))
                except Abstained:
                    self.problem = self.problem or problem
                    self.barriers.append(nest.place)
        return found

    def _operations(self, nest: Nest, failed: Mapping[int, Abstained]) -> list[Operation]:
        problem = nest.problem or self._failed(nest, failed)
        if problem is not None:
            raise problem
        found = operations(self.accesses, nest.statements)
        if not found:
            raise Abstained(Reason.NO_STORE, "a loop that stores nothing", self._line(nest))
        return found

    def _loops(self, nest: Nest, problem: Abstained) -> Operation:
        """A nest that is no tensor computation, run as it is. Raises Abstained where that is not known either."""
        if problem.reason not in _ONLY_ORDERED or not nest.statements:
            raise problem
        return in_order(self.accesses, nest.statements, problem)

    def _loose(self) -> list[tuple[int, Operation]]:
        """The operations of the stores outside of nests, with their places."""
        found: list[tuple[int, Operation]] = []
        for statement in self.accesses.loose:
            try:
                found += [(statement.place, op) for op in operations(self.accesses, [statement])]
            except Abstained as problem:
                self.problem = self.problem or problem
        return found

    def _segments(self, ops: Sequence[Operation]) -> list[list[Operation]]:
        """Operations between which nothing unknown happens."""
        segments: dict[int, list[Operation]] = {}
        for op in ops:
            segments.setdefault(sum(place < op.place for place in self.barriers), []).append(op)
        return list(segments.values())

    def _note(self, place: int, finding: Finding) -> None:
        self.findings.append((place, finding))

    def _line(self, nest: Nest) -> int | None:
        return self.function.blocks[nest.loop.header].terminator.line

    def _lines(self, nest: Nest) -> tuple[int, ...]:
        lines = {i.line for name in nest.loop.blocks for i in self.function.blocks[name].instructions if i.line}
        return tuple(sorted(lines))[:1]

    # --- requirements

    def _assume(self, requirement: Requirement) -> None:
        """What speaks of parameters alone is tested before: it may be relied on."""
        counters = self.trace.definitions.counters
        for part in conjuncts(requirement.holds):
            if not any(s in counters for leaf in part.leaves if leaf.poly for s in leaf.poly.symbols):
                if part.kind == "false":
                    continue
                self.polyhedra.assume(part)

    def _proven(self, requirement: Requirement) -> Abstained | None:
        """None where it holds, or will be tested; else why it cannot be relied on."""
        counters = self.trace.definitions.counters
        for part in conjuncts(requirement.holds):
            if part.kind == "false":
                return Abstained(Reason.WRAP, "a value that leaves the range of its type", requirement.line)
            if not any(s in counters for leaf in part.leaves if leaf.poly for s in leaf.poly.symbols):
                continue
            try:
                whole = self.polyhedra.set_of(requirement.loops, requirement.when)
                bad = whole.intersect(self.polyhedra.set_of(requirement.loops, both(requirement.when, negated(part))))
                needs = self.polyhedra.needs(bad)
                if needs is not None:
                    self.polyhedra.assume_set(needs)
            except Abstained as problem:
                if problem.reason is Reason.SUBSCRIPT and "product" in problem.detail:
                    continue  # depends on sizes: tested with them
                reason = Reason.WRAP if requirement.kind == "wrap" else Reason.DATA_BOUND
                return Abstained(reason, "a value that leaves the range of its type", requirement.line)
        return None

    def _failed(self, nest: Nest, failed: Mapping[int, Abstained]) -> Abstained | None:
        inner = self.trace.definitions.flow.inside(nest.loop)
        for requirement in self.trace.definitions.requirements:
            if id(requirement) in failed and (not requirement.loops or set(requirement.loops) & inner):
                return failed[id(requirement)]
        return None

    def _texts(self) -> list[str]:
        names = self._names()
        texts = []
        for condition in self.polyhedra.assumed:
            texts.append(_condition_text(condition, names))
        spelt = {name: Poly(((monomial, 1),)).text(names) for monomial, name in self.polyhedra.names.items()}
        for holds in self.polyhedra.assumed_sets:
            text = str(holds.gist(self.polyhedra.context_of_types())).partition("{")[2].strip(" }").strip(": ")
            texts.append(re.sub(r"\bm\d+\b", lambda found: spelt.get(found[0], found[0]), text))
        return list(dict.fromkeys([*texts, *self._overlaps(names)]))

    def _overlaps(self, names: Mapping[str, str]) -> list[str]:
        """Which arrays must lie apart."""
        exclusive = {a.name for a in self.function.arguments if a.noalias}
        statements = [s for nest in self.trace.nests for s in nest.statements] + self.trace.loose
        written = {s.target.base for s in statements} & self.accesses.arrays.keys()
        texts = []
        for base in sorted(written):
            others = [
                names.get(o, o.lstrip("%@"))
                for o in self.accesses.arrays
                if o != base and not (o in written and o < base) and not {o, base} & exclusive
            ]
            if others:
                texts.append(f"{names.get(base, base.lstrip('%@'))} does not overlap {', '.join(sorted(others))}")
        return texts

    def _names(self) -> dict[str, str]:
        return {a.name: a.label for a in self.function.arguments}

    # --- labels

    def _label(self, ops: Sequence[Operation]) -> None:
        visible = [op for op in ops if (op.loops or op.combine) and op.problem is None]
        position = 0
        while position < len(visible):
            several = composite(visible, position)
            count = several[1] if several else 1
            some = visible[position : position + count]
            position += count
            place = some[0].place
            try:
                named = Label(several[0], f"{count} operations") if several else label(some[0])
            except Abstained as problem:
                self._note(place, left_alone(self.function.name, problem, some[0].lines))
                continue
            self._note(place, self._finding(named, some))

    def _finding(self, named: Label, some: Sequence[Operation]) -> Finding:
        names = self._names()
        shapes = {}
        for op in some:
            for element in (op.target, *op.reads):
                if element.base in self.accesses.arrays:
                    shapes[names.get(element.base, element.base.lstrip("%@"))] = self._shape(element.base)
        lines = tuple(sorted({line for op in some for line in op.lines}))
        return Finding(
            self.function.name, named.pattern, named.detail, lines, "", shapes,
            "; ".join(p for op in some if (p := self._predicate(op))), len(some[0].fixed),
            all(op.reordered for op in some), len(some),
        )  # fmt: skip

    def _shape(self, base: str) -> str:
        extents = [poly.text(self._names()) for poly in self.accesses.arrays[base].extents]
        return "[" + ", ".join(["?", *extents]) + f"] {self.accesses.arrays[base].type}"

    def _predicate(self, op: Operation) -> str:
        """What restricts the iterations beyond ranges of the single counters."""
        box = isl.Set.universe(op.domain.get_space())
        for position in range(op.domain.dim(isl.dim_type.set)):
            alone = op.domain
            count = op.domain.dim(isl.dim_type.set)
            alone = alone.project_out(isl.dim_type.set, position + 1, count - position - 1)
            alone = alone.project_out(isl.dim_type.set, 0, position)
            alone = alone.insert_dims(isl.dim_type.set, 0, position)
            alone = alone.add_dims(isl.dim_type.set, count - position - 1)
            box = box.intersect(alone)
        if box.is_subset(op.domain):
            return ""
        return str(op.domain.gist(box).coalesce())


def _condition_text(condition: Condition, names: Mapping[str, str]) -> str:
    if condition.parts:
        return f" {condition.kind} ".join(_condition_text(part, names) for part in condition.parts)
    if condition.poly is None:
        return condition.kind
    sign = {"ge": ">= 0", "eq": "== 0", "ne": "!= 0"}[condition.kind]
    return f"{condition.poly.text(names)} {sign}"


def left_alone(function: str, problem: Abstained, lines: tuple[int, ...] = ()) -> Finding:
    where = (problem.line,) if problem.line else lines
    return Finding(function, "", problem.detail, where, str(problem.reason))
