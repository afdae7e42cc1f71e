"""Interleaved comparison: blocks of all entries in random order, round by round, each entry in its own process."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tuner.measure.model_service import WARM_UP_CALLS
from tuner.measure.states import StateProbe, states_of
from tuner.measure.stats import Verdict, median, noise_floor, unpaired_verdict, verdict
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import LONG_CALL_S, Stop
from tuner.records import CpuState, Label

PAUSE_S = (0.010, 0.030)
"""Between blocks: OpenMP and ONNX Runtime threads go on spinning for a while after a call, on the CPUs of the next."""

LEAST_SAMPLES = 3
_MOST_ROUNDS = 1000  # the interval of a median of 1000 is 3 % of the spread; more rounds buy nothing
_STEADY_CALL_S = 0.5  # preemption hardly changes the length of such a call
_SLOW = 4.0  # an entry whose block costs over four times the cheapest one's is a slow one
_OVERRUN = 1.1  # rounds that take this many times the budget end the comparison early
_NO_STATE = (CpuState.MIXED, CpuState.UNKNOWN)
CONTROL = "\0A/A control"  # the incumbent's second slot in a round; no entry can have this name


@dataclass(frozen=True)
class BenchmarkEntry:
    """Something to time, in a child that is ready. The child's `block(count)` returns `{first_s, seconds}`: what the
    first call after the rest took (None where it is so long that it is the block), and what `count` calls took
    afterwards, in seconds. Its `outputs(path)` writes the outputs of the last call."""

    name: str
    child: Child


@dataclass
class ComparisonResult:
    """What an interleaved comparison measured.

    `blocks` has the seconds per call by entry and round, in steady state; `first_calls` those of the first call after
    a rest, by entry and round. `dropped` says why entries were dropped. `control` and `first_control` are the blocks
    and first calls of the incumbent's A/A control by round; `noise_floor` is computed from them (a log ratio; infinite
    when the incumbent could not be measured against itself). `around_s` has the round trips of a cache line before and
    after each block in seconds, by entry (CONTROL is the control) and round, empty where the machine's state was not
    probed; `states` says which state that was, and `round_trips_s` the median round trip in each state.
    """

    blocks: dict[str, dict[int, float]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    calls_per_block: dict[str, int] = field(default_factory=dict)
    noise_floor: float = math.inf
    incumbent: str = ""
    control: dict[int, float] = field(default_factory=dict)
    first_calls: dict[str, dict[int, float]] = field(default_factory=dict)
    first_control: dict[int, float] = field(default_factory=dict)
    around_s: dict[str, dict[int, tuple[float | None, float | None]]] = field(default_factory=dict)
    states: dict[str, dict[int, CpuState]] = field(default_factory=dict)
    round_trips_s: dict[CpuState, float] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, list[float]]:
        """Seconds per call, in the order of the rounds. A dropped entry keeps what it had."""
        return {name: [rounds[r] for r in sorted(rounds)] for name, rounds in self.blocks.items()}

    @property
    def aa_pairs(self) -> tuple[list[float], list[float]]:
        """The blocks of the incumbent and of its A/A control in the rounds that have both."""
        return _common(self.blocks.get(self.incumbent, {}), self.control)

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

    def tell_states(self, probe: StateProbe) -> None:
        """Say which state each block ran in, by all that `probe` has seen so far."""
        states = states_of(probe.known_s)
        self.states = {
            slot: {number: probe.fixed or states.during(*around) for number, around in rounds.items()}
            for slot, rounds in self.around_s.items()
        }
        seen = [s for rounds in self.around_s.values() for around in rounds.values() for s in around if s is not None]
        self.round_trips_s = {
            state: median([s for s in seen if states.of(s) is state]) for state in dict.fromkeys(map(states.of, seen))
        }

    def within(self, state: CpuState) -> ComparisonResult:
        """What was measured in one state of the machine, with the noise floor of that state."""

        def of_state(name: str, rounds: Mapping[int, float]) -> dict[int, float]:
            states = self.states.get(name, {})
            return {number: seconds for number, seconds in rounds.items() if states.get(number) == state}

        return dataclasses.replace(
            self,
            blocks={name: of_state(name, rounds) for name, rounds in self.blocks.items()},
            control=of_state(CONTROL, self.control),
            first_calls={name: of_state(name, rounds) for name, rounds in self.first_calls.items()},
            first_control=of_state(CONTROL, self.first_control),
        ).with_noise_floor()

    def by_state(self) -> dict[CpuState, ComparisonResult]:
        """What was measured in each state in which the incumbent has blocks enough for a verdict, the state with the
        most of them first; empty where the state was not probed, is not known or changed all the time."""
        count = Counter(self.states.get(self.incumbent, {}).values())
        states = [state for state, n in count.most_common() if n >= LEAST_SAMPLES and state not in _NO_STATE]
        return {state: self.within(state) for state in states}

    def main(self, *names: str) -> tuple[CpuState | None, ComparisonResult]:
        """The state with the most blocks of those in which all of `names` have blocks, and what was measured in it.

        Where there is none it is MIXED with all blocks, or UNKNOWN where the state of no block is known, and None where
        it was not probed.
        """
        views = [(state, v) for state, v in self.by_state().items() if all(v.blocks.get(name) for name in names)]
        if views or not self.states:
            return views[0] if views else (None, self)
        told = {state for rounds in self.states.values() for state in rounds.values()}
        return CpuState.MIXED if told - {CpuState.UNKNOWN} else CpuState.UNKNOWN, self

    def first_call(self) -> ComparisonResult:
        """The first calls after a rest as a comparison of their own, with a noise floor of their own."""
        return dataclasses.replace(
            self, blocks=self.first_calls, control=self.first_control, first_calls={}, first_control={}
        ).with_noise_floor()

    def with_noise_floor(self) -> ComparisonResult:
        """The same with the noise floor that its own pairs give."""
        return dataclasses.replace(self, noise_floor=noise_floor(*self.aa_pairs))


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
    probe: StateProbe | None = None,
    limited: bool = False,
    stop: Stop = lambda: False,
) -> ComparisonResult:
    """Time the entries against one another.

    Each round runs one block of every entry that takes part in it, in random order, with a short pause before each.
    `time_budget_s` is for the rounds; before them the block of each entry is calibrated, which takes about two blocks.
    The incumbent (the first entry unless named) has two slots in each round; the second is its A/A control, and the
    two give the noise floor. An entry whose child dies, fails or is late (`timeout_s` for its first block, ten times
    what its blocks cost afterwards) is dropped with the reason, and the others go on. When blocks turn out to cost more
    than planned, the comparison ends once the budget is spent, `min_rounds` are done and every entry still in it has
    three blocks. `probe` tells the machine's state before and after every block.

    `limited`: `time_budget_s` is for the calibration too, and no block begins after it, save for a first one of the
    incumbent; entries for whose calibration no time is left are dropped, and `min_rounds` are as many as there is time
    for. Once `stop()` is true it ends when the incumbent has enough blocks for a verdict, or was dropped.

    Raises ValueError when two entries share a name, or when the incumbent is none of them.
    """
    names = [entry.name for entry in entries]
    incumbent = incumbent or (names[0] if names else "")
    if len(set(names)) != len(names) or (names and incumbent not in names):
        raise ValueError(f"entries {names} with the incumbent {incumbent!r}")
    result = ComparisonResult(blocks={name: {} for name in names}, incumbent=incumbent)
    result.first_calls = {name: {} for name in names}
    end = time.perf_counter() + time_budget_s if limited else math.inf
    if limited:
        timeout_s = min(timeout_s, 5.0 + 2.0 * time_budget_s)
    costs = _calibrated(entries, block_s, timeout_s, result, end, stop)
    if limited:
        time_budget_s = max(end - time.perf_counter(), 0.0)
        min_rounds = min(min_rounds, LEAST_SAMPLES)
    slots = {e.name: e for e in entries if e.name in costs}
    if incumbent in costs:
        slots[CONTROL] = slots[incumbent]
    watch = _Watch(probe, result)
    between_s = sum(PAUSE_S) / 2 + watch.cost_s
    rounds = plan({slot: costs[e.name] + between_s for slot, e in slots.items()}, min_rounds, time_budget_s)
    if limited and incumbent in costs:
        rounds[incumbent] |= {0}
    last = max((max(chosen) for chosen in rounds.values()), default=-1) + 1
    rng, began = random.Random(seed), time.perf_counter()

    def enough() -> bool:
        return stop() and (len(result.blocks[incumbent]) >= LEAST_SAMPLES or not result.running(incumbent))

    for number in range(last):
        order = [slot for slot in slots if number in rounds[slot] and result.running(slots[slot].name)]
        rng.shuffle(order)
        if limited and number == 0:
            order.sort(key=lambda slot: slot != incumbent)
        for slot in order:
            if time.perf_counter() + costs[slots[slot].name] > end and result.blocks[incumbent]:
                continue
            if enough():
                break
            block = _slot(slots[slot], costs, rng, result)
            watch.look(slot, number)
            if block is not None:
                (result.control if slot == CONTROL else result.blocks[slot])[number] = block.seconds
                if block.first_s is not None:
                    firsts = result.first_control if slot == CONTROL else result.first_calls[slot]
                    firsts[number] = block.first_s
        if progress is not None:
            progress(number + 1, last)
        late = time.perf_counter() - began > _OVERRUN * time_budget_s
        if (late and number + 1 >= min_rounds and result.all_have_enough()) or time.perf_counter() >= end or enough():
            break
    if probe is not None:
        result.tell_states(probe)
    return result.with_noise_floor()


class _Watch:
    """Looks at the machine's state before and after each block, where there is a `probe`."""

    def __init__(self, probe: StateProbe | None, result: ComparisonResult) -> None:
        self._probe, self._result = probe, result
        if probe is not None:
            probe.round_trip_s()  # the first one may have to start something
        began = time.perf_counter()
        self._before = probe.round_trip_s() if probe is not None else None
        self.cost_s = time.perf_counter() - began

    def look(self, slot: str, number: int) -> None:
        """After a block."""
        if self._probe is not None:
            after = self._probe.round_trip_s()
            self._result.around_s.setdefault(slot, {})[number] = self._before, after
            self._before = after


def _common(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """The values of both in the rounds that both have."""
    rounds = sorted(first.keys() & second.keys())
    return [first[r] for r in rounds], [second[r] for r in rounds]


def _calibrated(
    entries: Sequence[BenchmarkEntry],
    block_s: float,
    timeout_s: float,
    result: ComparisonResult,
    end: float,
    stop: Stop,
) -> dict[str, float]:
    """The seconds that a block of each entry costs. Those whose turn comes after `end`, a moment of perf_counter, or
    once `stop()` is true, are dropped, but the incumbent, which comes first."""
    costs: dict[str, float] = {}
    for entry in sorted(entries, key=lambda entry: entry.name != result.incumbent):
        if (costs and time.perf_counter() >= end) or (entry.name != result.incumbent and stop()):
            result.dropped[entry.name] = "the run was interrupted" if stop() else "no time was left for it"
        elif (cost := _calibrate(entry, block_s, timeout_s, result)) is not None:
            costs[entry.name] = cost
    return {entry.name: costs[entry.name] for entry in entries if entry.name in costs}


def _calibrate(entry: BenchmarkEntry, block_s: float, timeout_s: float, result: ComparisonResult) -> float | None:
    """Choose the entry's calls per block; the seconds that a block costs, or None after dropping the entry.

    Nothing of it is used as a sample. One call gives a first estimate, and a block of as many calls a better one,
    unless the call was so long that a second would cost more than it tells.
    """
    result.calls_per_block[entry.name] = 1
    block = _block(entry, result, timeout_s)
    if block is None:
        return None
    per_call = block.seconds
    if per_call < max(10 * block_s, _STEADY_CALL_S):
        result.calls_per_block[entry.name] = max(1, math.ceil(block_s / per_call))
        block = _block(entry, result, timeout_s)
        if block is None:
            return None
        per_call = min(per_call, block.seconds)
    calls = max(1, math.ceil(block_s / per_call))
    result.calls_per_block[entry.name] = calls
    return per_call * (calls + (1 + WARM_UP_CALLS) * (per_call < LONG_CALL_S))


def _slot(
    entry: BenchmarkEntry, costs: Mapping[str, float], rng: random.Random, result: ComparisonResult
) -> _Block | None:
    """One block after a pause; None where the entry is dropped."""
    if not result.running(entry.name):  # dropped in its other slot of this round
        return None
    time.sleep(rng.uniform(*PAUSE_S))
    return _block(entry, result, 5.0 + 10.0 * costs[entry.name])


@dataclass(frozen=True)
class _Block:
    """Seconds per call of a block, and seconds of the first call before it."""

    seconds: float
    first_s: float | None


def _block(entry: BenchmarkEntry, result: ComparisonResult, timeout_s: float) -> _Block | None:
    """One block, or None after dropping the entry."""
    calls = result.calls_per_block[entry.name]
    try:
        timed = entry.child.call("block", timeout_s, count=calls)
    except (ChildDied, ChildTimeout, ChildError) as error:
        result.dropped[entry.name] = f"{type(error).__name__}: {error}"
        return None
    seconds, first_s = float(timed["seconds"]), timed["first_s"]
    if not all(math.isfinite(s) and s > 0 for s in (seconds, first_s or seconds)):
        result.dropped[entry.name] = f"reported that {calls} calls took {seconds} s"
        return None
    return _Block(seconds / calls, first_s)
