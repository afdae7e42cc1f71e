"""What a graph's inputs may hold, told by what is done with them: a walk from the outputs back to the inputs.

Steps have the names and operands of ONNX operators, whatever the graph was written in. Each operator has a rule: from
what its result may hold (an index into a table reaches its input through a Cast, a Reshape, an Add of a constant) and
from what it can take itself to what its operands may hold. An operator without a rule tells nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.importers.use import Levels, Use
from tuner.protocols import Array

Told = Iterable[tuple[str, Use]]
"""Operands, by name, with what an operator allows in them."""

VERY_NEGATIVE = -1e3
"""What adds at most this to a score masks it."""

_NOTHING = Use()


@dataclass(frozen=True)
class Step:
    """One operator call. A missing optional operand is an empty name."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def operand(self, index: int) -> str:
        """Its name; "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True)
class Facts:
    """What is known of a graph's tensors: the values of (small) constants, and shapes. None where it is not known."""

    constant: Callable[[str], Array | None]
    shape: Callable[[str], tuple[int, ...] | None]

    def extent(self, name: str, axis: int) -> int | None:
        """Of one axis, which may be negative."""
        shape = self.shape(name) if name else None
        return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None

    def bounds(self, name: str) -> tuple[float, float] | None:
        """The least and the largest value of a constant."""
        value = self.constant(name) if name else None
        if value is None or value.size == 0 or value.dtype.kind not in "biuf":
            return None
        return float(value.min()), float(value.max())

    def number(self, name: str) -> float | None:
        """The value of a constant whose elements are all the same."""
        ends = self.bounds(name)
        return ends[0] if ends is not None and ends[0] == ends[1] else None


Rule = Callable[[Step, Use, Facts], Told]


def uses_of(steps: Sequence[Step], facts: Facts, rules: Mapping[str, Rule]) -> dict[str, Use]:
    """What every tensor may hold, by name; tensors of which nothing is known are left out."""
    uses: dict[str, Use] = {}
    for step in reversed(steps):
        rule = rules.get(step.op)
        if rule is None:
            continue
        result = _NOTHING
        for name in step.outputs:
            result = result.also(uses.get(name, _NOTHING))
        for name, told in rule(step, result, facts):
            if name and told != _NOTHING:
                uses[name] = uses.get(name, _NOTHING).also(told)
    return uses


# --- pieces of rules --------------------------------------------------------------------------------


def moved(*operands: int) -> Rule:
    """The values of these operands are the result's, elsewhere; with no operands named, all of them."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        passed = elsewhere(use)
        return [(step.operand(i), passed) for i in operands or range(len(step.inputs))]

    return rule


def elsewhere(use: Use) -> Use:
    """The same of values that stand in another order or place."""
    return replace(use, columns=(), distinct=False, axis=None, exact=())


def each(*rules: Rule) -> Rule:
    """What several rules tell."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        return [told for one in rules for told in one(step, use, facts)]

    return rule


def takes(**told: Use) -> Rule:
    """Operands (`_0`, `_1`, ...) that hold what is stated, whatever the result may hold."""
    stated = {int(name[1:]): use for name, use in told.items()}
    return lambda step, use, facts: [(step.operand(index), allowed) for index, allowed in stated.items()]


def index_into(data: int, indices: int, axis: int | None = None, distinct: bool = False) -> Rule:
    """Operand `indices` counts along an axis of operand `data`: `axis`, or the attribute of that name."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        along = int(step.attributes.get("axis", 0)) if axis is None else axis
        extent = facts.extent(step.operand(data), along)
        if extent:
            yield step.operand(indices), Use(0, extent - 1, distinct=distinct, axis=along if distinct else None)

    return rule


def tuples_into(data: int, indices: int, distinct: bool = False) -> Rule:
    """Rows of operand `indices` count along the first axes of operand `data`, after the batch axes."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        shape, many = facts.shape(step.operand(data)), facts.extent(step.operand(indices), -1)
        skipped = int(step.attributes.get("batch_dims", 0))
        if shape is None or not many or not (columns := shape[skipped : skipped + many]) or 0 in columns:
            return
        yield step.operand(indices), Use(0, min(columns) - 1, columns=columns, distinct=distinct)

    return rule


def flipped(levels: Levels | None) -> Levels | None:
    """Of a mask that holds the contrary."""
    return None if levels is None else (1.0 - levels[0], 1.0 - levels[1])


def scaled(levels: Levels | None, factor: float, offset: float) -> Levels | None:
    """Of `x`, where `factor * x + offset` has these levels."""
    return None if levels is None else ((levels[0] - offset) / factor + 0.0, (levels[1] - offset) / factor + 0.0)


# --- arithmetic -------------------------------------------------------------------------------------


def plus(step: Step, use: Use, facts: Facts) -> Told:
    """`a + b`: a constant shifts the bounds of the other operand; two computed ones share them."""
    a, b = step.operand(0), step.operand(1)
    for x, other in ((a, b), (b, a)):
        if facts.constant(x) is not None:
            continue
        ends = facts.bounds(other)
        if ends is not None:
            yield x, _shifted(use, *ends)
        elif facts.constant(other) is None:
            low = use.low if use.low > 0 else use.low / 2
            yield x, Use(low, use.high / 2 if use.high > 0 else use.high, scores=use.scores)


def _shifted(use: Use, least: float, largest: float) -> Use:
    """What `x` may hold where `x` plus constants between two bounds is used so."""
    offset = least if least == largest else None
    include = tuple(value - offset for value in use.include) if offset is not None else ()
    levels = scaled(use.levels, 1.0, offset) if offset is not None else None
    return Use(use.low - least, use.high - largest, levels, scores=use.scores, include=include)


def minus(step: Step, use: Use, facts: Facts) -> Told:
    """`a - b`."""
    a, b = step.operand(0), step.operand(1)
    if (ends := facts.bounds(b)) is not None:
        return [(a, _shifted(use, -ends[1], -ends[0]))]
    if (ends := facts.bounds(a)) is not None:
        levels = scaled(use.levels, -1.0, ends[0]) if ends[0] == ends[1] else None
        return [(b, Use(ends[1] - use.high, ends[0] - use.low, levels))]
    if use.low > 0 or math.isfinite(use.high):  # so that a - b stays above, and an index in its range
        return [(a, Use(max(use.low, 0.0), use.high)), (b, Use(0.0, 0.0))]
    return [(a, Use(scores=use.scores))]


def times(step: Step, use: Use, facts: Facts) -> Told:
    """`a * b`: a constant scales the bounds; a large one makes a mask of what is added to scores."""
    a, b = step.operand(0), step.operand(1)
    if a == b:
        return
    for x, other in ((a, b), (b, a)):
        if facts.constant(x) is not None:
            continue
        ends = facts.bounds(other)
        if ends is not None:
            yield x, _factored(use, *ends)
        elif facts.constant(other) is None:
            low = math.sqrt(use.low) if use.low > 0 else use.low if use.low == 0 else -math.inf
            yield x, Use(low, math.sqrt(use.high) if use.high >= 1 else math.inf, factor=True)


def _factored(use: Use, least: float, largest: float) -> Use:
    """What `x` may hold where `x` times constants between two bounds is used so."""
    same = least == largest
    levels = scaled(use.levels, least, 0.0) if same and least else None
    if use.scores and same and abs(least) >= -VERY_NEGATIVE:
        levels = levels or (0.0, -math.copysign(1.0, least))
    if least <= 0 <= largest or not math.isfinite(least * largest):
        return Use(levels=levels)
    bounds = [bound / factor for bound in (use.low, use.high) for factor in (least, largest)]
    low, high = (max(bounds[:2]), min(bounds[2:])) if least > 0 else (max(bounds[2:]), min(bounds[:2]))
    return Use(low, high, levels, scores=use.scores and levels is None)


def divided(least: float) -> Rule:
    """`a / b`, where `b` must be at least `least`."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        a, b = step.operand(0), step.operand(1)
        if facts.constant(b) is None:
            return [(b, Use(low=least)), (a, Use(low=0.0) if use.low >= 0 else _NOTHING)]
        ends = facts.bounds(b)
        if ends is None or ends[0] <= 0 or not math.isfinite(ends[1]):
            return []
        return [(a, _factored(use, 1 / ends[1], 1 / ends[0]))]

    return rule


def power(least: float) -> Rule:
    """`a ** b`: a base of at least `least`, unless the exponent is a whole number above 0."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        base, exponent = step.operand(0), step.operand(1)
        if facts.constant(exponent) is None:
            yield exponent, Use(0.5, 3.0)
        number = facts.number(exponent)
        whole = number is not None and number == int(number) and number > 0
        if not whole:
            yield base, Use(low=least)
        elif number is not None and number % 2 and use.low >= 0:
            yield base, Use(low=use.low)

    return rule


def negated(step: Step, use: Use, facts: Facts) -> Told:
    """`-a`."""
    yield step.operand(0), Use(-use.high, -use.low, scaled(use.levels, -1.0, 0.0))


def summed(step: Step, use: Use, facts: Facts) -> Told:
    """A sum over some elements; what must be positive is a sum of positive ones. A mask has an element that keeps."""
    before, after = facts.shape(step.operand(0)), facts.shape(step.outputs[0])
    if before is None or after is None:
        return
    count = max(1, math.prod(before) // max(1, math.prod(after)))
    yield step.operand(0), Use(use.low if use.low >= 0 else -math.inf, use.high / count, factor=True)


def running_sum(step: Step, use: Use, facts: Facts) -> Told:
    """A cumulative sum that is used as an index counts what a mask keeps."""
    if math.isfinite(use.high):
        yield step.operand(0), Use(levels=(1.0, 0.0))
    elif use.low > 0:
        yield step.operand(0), Use(low=use.low)


def clipped(step: Step, use: Use, facts: Facts) -> Told:
    """What clipping ensures, the input need not."""
    least, most = step.attributes.get("min"), step.attributes.get("max")
    least = facts.number(step.operand(1)) if least is None else least
    most = facts.number(step.operand(2)) if most is None else most
    low = -math.inf if least is not None and least >= use.low else use.low
    high = math.inf if most is not None and most <= use.high else use.high
    yield step.operand(0), replace(elsewhere(use), low=low, high=high)


def at_least(step: Step, use: Use, facts: Facts) -> Told:
    """`max(a, b, ...)`."""
    ensured = max((ends[0] for name in step.inputs if (ends := facts.bounds(name)) is not None), default=-math.inf)
    low = -math.inf if ensured >= use.low else use.low
    return [(name, replace(elsewhere(use), low=low)) for name in step.inputs]


def at_most(step: Step, use: Use, facts: Facts) -> Told:
    """`min(a, b, ...)`."""
    ensured = min((ends[1] for name in step.inputs if (ends := facts.bounds(name)) is not None), default=math.inf)
    high = math.inf if ensured <= use.high else use.high
    return [(name, replace(elsewhere(use), high=high)) for name in step.inputs]


def rectified(step: Step, use: Use, facts: Facts) -> Told:
    """`max(a, 0)`."""
    yield step.operand(0), Use(use.low if use.low > 0 else -math.inf, use.high)


# --- conditions -------------------------------------------------------------------------------------


def chosen(step: Step, use: Use, facts: Facts) -> Told:
    """`where(mask, a, b)`: what is chosen instead of a very negative constant is kept."""
    mask, a, b = (step.operand(index) for index in range(3))
    low_a, low_b = facts.number(a), facts.number(b)
    levels: Levels | None = None
    if low_b is not None and low_b <= VERY_NEGATIVE:
        levels = (1.0, 0.0)
    elif low_a is not None and low_a <= VERY_NEGATIVE:
        levels = (0.0, 1.0)
    yield mask, Use(levels=levels, mask=levels is None)
    for x in (a, b):
        if facts.constant(x) is None:
            yield x, elsewhere(use)


def inverted(step: Step, use: Use, facts: Facts) -> Told:
    """`not a`."""
    yield step.operand(0), Use(levels=flipped(use.levels), mask=use.mask)


def to_type(step: Step, use: Use, facts: Facts) -> Told:
    """A cast. To a truth value it is a comparison with 0."""
    if step.attributes.get("to_bool"):
        yield step.operand(0), Use(levels=use.levels, include=(0.0,))
    else:
        yield step.operand(0), replace(use, exact=())


def compared(above: bool | None) -> Rule:
    """`a > b` (`above`), `a < b`, or `a == b` (None): values to either side; a mask where one is 0 or 1."""

    def rule(step: Step, use: Use, facts: Facts) -> Told:
        a, b = step.operand(0), step.operand(1)
        for x, other, greater in ((a, b, above), (b, a, None if above is None else not above)):
            if facts.constant(x) is not None:
                continue
            ends = facts.bounds(other)
            if ends is not None:
                yield x, _beside(use, ends, greater)
            elif facts.constant(other) is None:
                yield x, _NOTHING

    return rule


def _beside(use: Use, ends: tuple[float, float], greater: bool | None) -> Use:
    """What `x` may hold where it is compared with constants between two bounds."""
    least, largest = ends
    if least != largest:  # positions against lengths: some on either side
        return Use(max(least, 1.0) if least == 0 else least, largest + 1) if greater is not None else _NOTHING
    if not math.isfinite(least):
        return _NOTHING
    if greater is None:
        levels = use.levels if least == 1.0 else flipped(use.levels) if least == 0.0 else None
        return Use(levels=levels, include=(least,))
    if not 0.0 <= least <= 1.0:
        return Use(include=(least - 1, least, least + 1)) if least == int(least) else _NOTHING
    return Use(levels=use.levels if greater else flipped(use.levels), include=(0.0, 1.0))
