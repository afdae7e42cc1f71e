"""Loops and choices: of affine and scf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xdsl.ir import SSAValue

from kernels.raising.mlir import affine
from kernels.raising.mlir.buffers import kind_of
from kernels.raising.mlir.code import Words
from kernels.raising.mlir.operations import Operations
from kernels.raising.reasons import Abstained, Reason


class _Control:
    def __init__(self, ops: Operations) -> None:
        self.ops, self.code = ops, ops.code

    def scf_for(self, op: Any) -> None:
        start, end, step = self.ops.words([op.lb, op.ub, op.step])
        self._loop(op, op.iter_args, start, end, step)

    def affine_for(self, op: Any) -> None:
        starts = affine.results(self.code, op.lowerBoundMap.data, self.ops.words(op.lowerBoundOperands))
        ends = affine.results(self.code, op.upperBoundMap.data, self.ops.words(op.upperBoundOperands))
        step = str(op.step.value.data)
        self._loop(op, op.inits, self.code.least(starts, "smax"), self.code.least(ends), step)

    def _loop(self, op: Any, starts: Sequence[SSAValue], start: Words, end: Words, step: Words) -> None:
        if step.lstrip("-").isdigit() and int(step) < 1:
            raise Abstained(Reason.CONTROL, "a loop whose step is not positive")
        carried = [(kind_of(value.type), self.ops.word(value)) for value in starts]
        last = self.code.loop(
            start, end, step, carried, lambda counter, names: self.ops.inline(op.body, [counter, *names])
        )
        self.ops.values |= dict(zip(op.results, last, strict=True))

    def scf_parallel(self, op: Any) -> None:
        bounds = [self.ops.words(some) for some in (op.lowerBound, op.upperBound, op.step)]
        starts = [(kind_of(value.type), self.ops.word(value)) for value in op.initVals]

        def nest(at: tuple[Words, ...], carried: Sequence[Words]) -> list[Words]:
            depth = len(at)
            if depth == len(bounds[0]):
                return self._reduced(op, at, carried)
            kinds = [kind for kind, _ in starts]
            return self.code.loop(
                bounds[0][depth], bounds[1][depth], bounds[2][depth], list(zip(kinds, carried, strict=True)),
                lambda counter, inner: nest((*at, counter), inner),
            )  # fmt: skip

        last = nest((), [word for _, word in starts])
        self.ops.values |= dict(zip(op.results, last, strict=True))

    def _reduced(self, op: Any, at: Sequence[Words], carried: Sequence[Words]) -> list[Words]:
        """The body at one point: its terms put together with what was carried so far, in whatever order."""
        block = op.body.block
        self.ops.values |= dict(zip(block.args, at, strict=True))
        last: Any = self.ops.block(block)
        terms = self.ops.words(last.operands)
        results = []
        for region, total, term in zip(last.reductions, carried, terms, strict=True):
            self.ops.reassociated |= set(region.block.ops)
            results += self.ops.inline(region, [total, term])
        return results

    def affine_parallel(self, op: Any) -> None:
        if op.res:
            raise Abstained(Reason.OPERATOR, "affine.parallel with reductions")
        low, high = op.lowerBoundsMap.data, op.upperBoundsMap.data
        words = self.ops.words(op.map_operands)
        used = low.num_dims + low.num_symbols
        starts = _grouped(affine.results(self.code, low, words[:used]), op.lowerBoundsGroups)
        ends = _grouped(affine.results(self.code, high, words[used:]), op.upperBoundsGroups)

        def nest(at: tuple[Words, ...]) -> list[Words]:
            depth = len(at)
            if depth == len(starts):
                self.ops.inline(op.body, at)
                return []
            start, end = self.code.least(starts[depth], "smax"), self.code.least(ends[depth])
            step = str(list(op.steps)[depth].value.data)
            return self.code.loop(start, end, step, (), lambda counter, names: nest((*at, counter)))

        nest(())

    def scf_if(self, op: Any) -> None:
        self._choice(op, self.ops.word(op.cond), op.true_region, op.false_region)

    def affine_if(self, op: Any) -> None:
        condition = affine.holds(self.code, op.condition.data, self.ops.words(op.args))
        self._choice(op, condition, op.then_region, op.else_region)

    def _choice(self, op: Any, condition: Words, then: Any, otherwise: Any) -> None:
        kinds = [kind_of(result.type) for result in op.results]

        def way(region: Any) -> list[Words]:
            return self.ops.inline(region, ()) if region.blocks else []

        found = self.code.choice(condition, kinds, lambda: way(then), lambda: way(otherwise))
        self.ops.values |= dict(zip(op.results, found, strict=True))

    def scf_while(self, op: Any) -> None:
        starts = [(kind_of(value.type), self.ops.word(value)) for value in op.arguments]
        before, header, inside, after = self.code.block, *map(self.code.label, ("test", "body", "end"))
        self.code.jump(header)
        self.code.begin(header)
        names = [f"%{header}.{number}" for number in range(len(starts))]
        place = len(self.code.text)
        self.code.depth += 1
        self.ops.values |= dict(zip(op.before_region.block.args, names, strict=True))
        last = self.ops.block(op.before_region.block)
        condition, *passed = self.ops.words(last.operands)  # type: ignore[union-attr]
        self.code.do(f"br i1 {condition}, label %{inside}, label %{after}")
        self.code.begin(inside)
        results = self.ops.inline(op.after_region, passed)
        latch = self.code.block
        self.code.depth -= 1
        self.code.jump(header)
        self.code.text[place:place] = [
            f"  {name} = phi {kind} [ {first}, %{before} ], [ {following}, %{latch} ]"
            for name, (kind, first), following in zip(names, starts, results, strict=True)
        ]
        self.code.begin(after)
        self.ops.values |= dict(zip(op.results, passed, strict=True))


def _grouped(values: Sequence[Words], groups: Any) -> list[list[Words]]:
    rest = list(values)
    return [[rest.pop(0) for _ in range(int(count))] for count in groups.get_values()]


def handlers(ops: Operations) -> dict[str, Callable[[Any], None]]:
    """By the names of operations."""
    control = _Control(ops)
    return {
        "scf.for": control.scf_for, "affine.for": control.affine_for, "scf.parallel": control.scf_parallel,
        "affine.parallel": control.affine_parallel, "scf.if": control.scf_if, "affine.if": control.affine_if,
        "scf.while": control.scf_while,
    }  # fmt: skip
