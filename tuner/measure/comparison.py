"""Interleaved comparison: blocks of all entries in random order, round by round, each entry in its own process."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tuner.measure.stats import Verdict, noise_floor, unpaired_verdict, verdict
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import LONG_CALL_S
from tuner.records import Label

PAUSE_S = (0.010, 0.030)
"""Between blocks: OpenMP and ONNX Runtime threads go on spinning for a while after a call, on the CPUs of the next."""

LEAST_SAMPLES = 3
_MOST_ROUNDS = 1000  # the interval of a median of 1000 is 3 % of the spread; more rounds buy nothing
_STEADY_CALL_S = 0.5  # preemption hardly changes the length of such a call
_SLOW = 4.0  # an entry whose block costs over four times the cheapest one's is a slow one
_OVERRUN = 1.1  # rounds that take this many times the budget end the comparison early
_CONTROL = "\0A/A control"  # the incumbent's second slot in a round; no entry can have this name


@dataclass(frozen=True)
class BenchmarkEntry:
    """Something to time, in a child that is ready. The child's `block(count)` returns the seconds that `count` calls
    took, after an untimed warm-up call, and its `outputs(path)` writes the outputs of the last call."""

    name: str
    child: Child


@dataclass
class ComparisonResult:
    """What an interleaved comparison measured.

    `blocks` has the seconds per call by entry and round, `dropped` says why entries were dropped. `aa_pairs` are the
    blocks of the incumbent and of its A/A control by round; `noise_floor` is computed from them (a log ratio; infinite
    when the incumbent could not be measured against itself).
    """

    blocks: dict[str, dict[int, float]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    calls_per_block: dict[str, int] = field(default_factory=dict)
    noise_floor: float = math.inf
    aa_pairs: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    @property
    def seconds(self) -> dict[str, list[float]]:
        """Seconds per call, in the order of the rounds. A dropped entry keeps what it had."""
        return {name: [rounds[r] for r in sorted(rounds)] for name, rounds in self.blocks.items()}

    def pairs(self, first: str, second: str) -> tuple[list[float], list[float]]:
        """The blocks of both in the rounds in which both took part."""
        return _common(self.blocks.get(first, {}), self.blocks.get(second, {}))

    def verdict(self, first: str, second: str) -> Verdict:
        """Whether `first` is faster than `second`.

        An entry so slow that there was time for one or two of its blocks gives too few pairs. Then the ranges decide,
        where they lie further apart than twice the noise floor.
        """
        a, b = self.pairs(first, second)
        if len(a) >= LEAST_SAMPLES:
            return verdict(a, b, noise_floor=self.noise_floor)
        unpaired = unpaired_verdict(self.seconds.get(first, ()), self.seconds.get(second, ()))
        apart = 0.0 if unpaired.interval is None else min(abs(math.log(edge)) for edge in unpaired.interval)
        return unpaired if apart > 2.0 * self.noise_floor else dataclasses.replace(unpaired, label=Label.UNDECIDED)

    def running(self, name: str) -> bool:
        return name not in self.dropped

    def all_have_enough(self) -> bool:
        """Whether every entry that was not dropped has enough blocks for a paired verdict."""
        return all(len(blocks) >= LEAST_SAMPLES for name, blocks in self.blocks.items() if self.running(name))


def plan(costs: Mapping[str, float], min_rounds: int, budget_s: float) -> dict[str, frozenset[int]]:
    """Which rounds each entry takes part in, from the seconds that one of its blocks costs.

    As many rounds as the budget allows, at least `min_rounds`. An entry takes part in every round unless that would
    cost more than its equal share of the budget; then in as many as the share pays for, evenly spread. It gets
    `min_rounds` all the same unless it is slow (over four times the cost of the cheapest). A slow one gets at least
    three, or as many of three as half of the whole budget pays for, and never fewer than one.
    """
    if not costs:
        return {}
    share = budget_s / len(costs)
    cheapest = min(costs.values())

    def cap(cost: float) -> int:
        least = min_rounds if cost <= _SLOW * cheapest else min(LEAST_SAMPLES, int(0.5 * budget_s / cost))
        return max(int(share / cost), least, 1)

    caps = {name: cap(cost) for name, cost in costs.items()}

    def total(rounds: int) -> float:
        return sum(min(rounds, caps[name]) * cost for name, cost in costs.items())

    low = max(1, min_rounds)
    high = max(low, min(_MOST_ROUNDS, max(caps.values())))
    while low < high:  # the largest number of rounds that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= budget_s else (low, middle - 1)
    return {name: _spread(min(low, caps[name]), low) for name in costs}


def _spread(count: int, rounds: int) -> frozenset[int]:
    """`count` of the numbers below `rounds`, evenly spaced."""
    return frozenset((2 * i + 1) * rounds // (2 * count) for i in range(count))


def compare_interleaved(
    entries: Sequence[BenchmarkEntry],
    *,
    min_rounds: int = 10,
    time_budget_s: float = 30.0,
    block_s: float = 0.1,
    seed: int = 0,
    incumbent: str | None = None,
    timeout_s: float = 120.0,
    progress: Callable[[int, int], None] | None = None,
) -> ComparisonResult:
    """Time the entries against one another.

    Each round runs one block of every entry that takes part in it, in random order, with a short pause before each.
    `time_budget_s` is for the rounds; before them the block of each entry is calibrated, which takes about two blocks.
    The incumbent (the first entry unless named) has two slots in each round; the second is its A/A control, and the
    two give the noise floor. An entry whose child dies, fails or is late (`timeout_s` for its first block, ten times
    what its blocks cost afterwards) is dropped with the reason, and the others go on. When blocks turn out to cost more
    than planned, the comparison ends once the budget is spent, `min_rounds` are done and every entry still in it has
    three blocks. Raises ValueError when two entries share a name, or when the incumbent is none of them.
    """
    names = [entry.name for entry in entries]
    incumbent = incumbent or (names[0] if names else "")
    if len(set(names)) != len(names) or (names and incumbent not in names):
        raise ValueError(f"entries {names} with the incumbent {incumbent!r}")
    result = ComparisonResult(blocks={name: {} for name in names})
    costs = {e.name: cost for e in entries if (cost := _calibrate(e, block_s, timeout_s, result)) is not None}
    slots = {e.name: e for e in entries if e.name in costs}
    if incumbent in costs:
        slots[_CONTROL] = slots[incumbent]
    pause_s = sum(PAUSE_S) / 2
    rounds = plan({slot: costs[e.name] + pause_s for slot, e in slots.items()}, min_rounds, time_budget_s)
    last = max((max(chosen) for chosen in rounds.values()), default=-1) + 1
    rng, began = random.Random(seed), time.perf_counter()
    control: dict[int, float] = {}
    for number in range(last):
        order = [slot for slot in slots if number in rounds[slot] and result.running(slots[slot].name)]
        rng.shuffle(order)
        for slot in order:
            seconds = _slot(slots[slot], costs, rng, result)
            if seconds is not None:
                (control if slot == _CONTROL else result.blocks[slot])[number] = seconds
        if progress is not None:
            progress(number + 1, last)
        late = time.perf_counter() - began > _OVERRUN * time_budget_s
        if late and number + 1 >= min_rounds and result.all_have_enough():
            break
    result.aa_pairs = _common(result.blocks.get(incumbent, {}), control)
    result.noise_floor = noise_floor(*result.aa_pairs)
    return result


def _common(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """The values of both in the rounds that both have."""
    rounds = sorted(first.keys() & second.keys())
    return [first[r] for r in rounds], [second[r] for r in rounds]


def _calibrate(entry: BenchmarkEntry, block_s: float, timeout_s: float, result: ComparisonResult) -> float | None:
    """Choose the entry's calls per block; the seconds that a block costs, or None after dropping the entry.

    Nothing of it is used as a sample. One call gives a first estimate, and a block of as many calls a better one,
    unless the call was so long that a second would cost more than it tells.
    """
    result.calls_per_block[entry.name] = 1
    per_call = _block(entry, result, timeout_s)
    if per_call is None:
        return None
    if per_call < max(10 * block_s, _STEADY_CALL_S):
        result.calls_per_block[entry.name] = max(1, math.ceil(block_s / per_call))
        in_a_block = _block(entry, result, timeout_s)
        if in_a_block is None:
            return None
        per_call = min(per_call, in_a_block)
    calls = max(1, math.ceil(block_s / per_call))
    result.calls_per_block[entry.name] = calls
    return per_call * (calls + (per_call < LONG_CALL_S))  # with the warm-up call that the child makes first


def _slot(
    entry: BenchmarkEntry, costs: Mapping[str, float], rng: random.Random, result: ComparisonResult
) -> float | None:
    """Seconds per call of one block after a pause; None where the entry is dropped."""
    if not result.running(entry.name):  # dropped in its other slot of this round
        return None
    time.sleep(rng.uniform(*PAUSE_S))
    return _block(entry, result, 5.0 + 10.0 * costs[entry.name])


def _block(entry: BenchmarkEntry, result: ComparisonResult, timeout_s: float) -> float | None:
    """Seconds per call of one block, or None after dropping the entry."""
    calls = result.calls_per_block[entry.name]
    try:
        seconds = float(entry.child.call("block", timeout_s, count=calls))
    except (ChildDied, ChildTimeout, ChildError) as error:
        result.dropped[entry.name] = f"{type(error).__name__}: {error}"
        return None
    if not (math.isfinite(seconds) and seconds > 0):
        result.dropped[entry.name] = f"reported that {calls} calls took {seconds} s"
        return None
    return seconds / calls
