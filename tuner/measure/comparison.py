"""Rivals timed side by side: blocks in random order, round by round, each rival in its own process."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tuner.measure.stats import Label, Verdict, noise_floor, unpaired_verdict, verdict
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import LONG_CALL_S

PAUSE_S = (0.010, 0.030)
"""Between blocks: OpenMP and ONNX Runtime threads go on spinning for a while after a call, on our cores."""

LEAST_SAMPLES = 3
_MOST_ROUNDS = 1000  # the interval of a median of 1000 is 3 % of the spread; more rounds buy nothing
_STEADY_CALL_S = 0.5  # no outside disturbance changes the length of such a call by much
_SLOW = 4.0  # a contender whose block costs over four times the cheapest one's is a slow one
_CONTROL = "\0incumbent again"  # the incumbent's second entry; no contender can have this name


@dataclass(frozen=True)
class BenchmarkEntry:
    """A rival in a child that is ready: `block(count)` answers the seconds that `count` calls took, after an
    untimed warm call, and `outputs(path)` writes the outputs of the last call."""

    name: str
    child: Child


@dataclass
class ComparisonResult:
    """Seconds per call of each contender by round, why contenders were dropped, and the A/A noise floor (a log
    ratio; infinite when the incumbent could not be measured against itself), from the pairs of `again`."""

    blocks: dict[str, dict[int, float]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    calls_per_block: dict[str, int] = field(default_factory=dict)
    noise_floor: float = math.inf
    again: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    @property
    def seconds(self) -> dict[str, list[float]]:
        """Seconds per call, in the order of the rounds. A dropped contender keeps what it had."""
        return {name: [rounds[r] for r in sorted(rounds)] for name, rounds in self.blocks.items()}

    def pairs(self, first: str, second: str) -> tuple[list[float], list[float]]:
        """The blocks of both in the rounds in which both took part."""
        a, b = self.blocks.get(first, {}), self.blocks.get(second, {})
        common = sorted(a.keys() & b.keys())
        return [a[r] for r in common], [b[r] for r in common]

    def verdict(self, first: str, second: str) -> Verdict:
        """Whether `first` is faster than `second`. A rival so slow that there was time for one or two of its blocks
        pairs up with too few: then the ranges decide, where they lie further apart than twice the noise floor."""
        a, b = self.pairs(first, second)
        if len(a) >= LEAST_SAMPLES:
            return verdict(a, b, noise_floor=self.noise_floor)
        found = unpaired_verdict(self.seconds.get(first, ()), self.seconds.get(second, ()))
        apart = 0.0 if found.interval is None else min(abs(math.log(edge)) for edge in found.interval)
        return found if apart > 2.0 * self.noise_floor else dataclasses.replace(found, label=Label.UNDECIDED)


def thread_env(threads: int) -> dict[str, str]:
    """The environment with which every contender's child is started, so that all use the same threads.

    TVM would pin its workers one CPU each but not the calling thread, which the scheduler then often leaves on
    a worker's CPU: on two cores that halves the speed. The operating system places them better.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"TVM_BIND_THREADS": "0"}


def plan(costs: Mapping[str, float], min_rounds: int, budget_s: float) -> dict[str, frozenset[int]]:
    """Which rounds each contender takes part in, from the seconds that one of its blocks costs.

    As many rounds as the budget allows, at least `min_rounds`. A contender takes part in every round unless
    that would cost more than its equal share of the budget; then in as many as the share pays for, evenly
    spread. It gets `min_rounds` all the same unless it is slow (over four times the cost of the cheapest); a slow
    one gets at least three, or as many of three as half of the whole budget pays for, and never fewer than one.
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


def contest(
    contenders: Sequence[BenchmarkEntry],
    *,
    min_rounds: int = 10,
    time_budget_s: float = 30.0,
    block_s: float = 0.1,
    seed: int = 0,
    incumbent: str | None = None,
    timeout_s: float = 120.0,
    progress: Callable[[int, int], None] | None = None,
) -> ComparisonResult:
    """Time the contenders against one another.

    Each round runs one block of every contender that takes part in it, in random order, with a short pause
    before each. `time_budget_s` is for the rounds; before them each contender shows the cost of its block, which
    takes about two blocks. The incumbent (the first contender unless named) is entered twice; its two entries give the
    noise floor. A contender whose child dies, fails or is late (`timeout_s` for its first block, ten times what
    its blocks cost afterwards) is dropped with the reason, and the others go on. When blocks turn out
    to cost more than planned, the contest ends once the budget is spent, `min_rounds` are done and every
    contender still in it has three blocks. Raises ValueError when two contenders share a name, or when the
    incumbent is none of them.
    """
    names = [contender.name for contender in contenders]
    incumbent = incumbent or (names[0] if names else "")
    if len(set(names)) != len(names) or (names and incumbent not in names):
        raise ValueError(f"contenders {names} with the incumbent {incumbent!r}")
    result = ComparisonResult(blocks={name: {} for name in names})
    children = {contender.name: contender.child for contender in contenders}
    costs: dict[str, float] = {}
    for name in names:
        _qualify(name, children[name], block_s, timeout_s, result, costs)
    entries = {name: name for name in costs}
    if incumbent in costs:
        entries[_CONTROL] = incumbent
    began = time.perf_counter()
    rounds = plan({entry: costs[name] + sum(PAUSE_S) / 2 for entry, name in entries.items()}, min_rounds, time_budget_s)
    control: dict[int, float] = {}
    rng = random.Random(seed)
    last = max((max(chosen) for chosen in rounds.values()), default=-1) + 1
    for number in range(last):
        order = [entry for entry in entries if number in rounds[entry] and entries[entry] not in result.dropped]
        rng.shuffle(order)
        for entry in order:
            name = entries[entry]
            if name in result.dropped:
                continue
            time.sleep(rng.uniform(*PAUSE_S))
            seconds = _block(name, children[name], result, 5.0 + 10.0 * costs[name])
            if seconds is not None:
                (control if entry == _CONTROL else result.blocks[name])[number] = seconds
        if progress is not None:
            progress(number + 1, last)
        late = time.perf_counter() - began > 1.1 * time_budget_s
        if late and number + 1 >= min_rounds and _all_have_enough(result):
            break
    both = sorted(control.keys() & result.blocks.get(incumbent, {}).keys())
    result.again = [result.blocks[incumbent][r] for r in both], [control[r] for r in both]
    result.noise_floor = noise_floor(*result.again)
    return result


def _qualify(
    name: str, child: Child, block_s: float, timeout_s: float, result: ComparisonResult, costs: dict[str, float]
) -> None:
    """Find the block's length and cost; nothing of it is kept as a sample. One call tells how many make a block,
    and such a block tells better, unless the call was so long that a second would cost more than it tells."""
    result.calls_per_block[name] = 1
    per_call = _block(name, child, result, timeout_s)
    if per_call is None:
        return
    if per_call < max(10 * block_s, _STEADY_CALL_S):
        result.calls_per_block[name] = max(1, math.ceil(block_s / per_call))
        again = _block(name, child, result, timeout_s)
        if again is None:
            return
        per_call = min(per_call, again)
    result.calls_per_block[name] = max(1, math.ceil(block_s / per_call))
    warm_calls = 1 if per_call < LONG_CALL_S else 0
    costs[name] = per_call * (result.calls_per_block[name] + warm_calls)


def _block(name: str, child: Child, result: ComparisonResult, timeout_s: float) -> float | None:
    """Seconds per call of one block, or None after dropping the contender."""
    calls = result.calls_per_block[name]
    try:
        seconds = float(child.call("block", timeout_s, count=calls))
    except (ChildDied, ChildTimeout, ChildError) as error:
        result.dropped[name] = f"{type(error).__name__}: {error}"
        return None
    if not (math.isfinite(seconds) and seconds > 0):
        result.dropped[name] = f"said that {calls} calls took {seconds} s"
        return None
    return seconds / calls


def _all_have_enough(result: ComparisonResult) -> bool:
    return all(len(blocks) >= LEAST_SAMPLES for name, blocks in result.blocks.items() if name not in result.dropped)
