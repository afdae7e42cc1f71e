"""Which kernels fit together: what the threads of one kernel leave in the caches of others is a cost of the next ones.

A kernel is timed alone, and what its threads share with those of its neighbours is not seen. Inside a model each cache
line of an activation is written by one CPU and read by one or by several. A line that another CPU has read costs its
writer, when it writes it again, a tenth of the round trip between the two (7 ns where they share a cache, 35 ns where
they do not; 0.7 ns for a line of its own), and a line that another CPU has written costs its reader a 150th of it,
since reads are fetched ahead and writes are not (experiments/sharing). So kernels whose threads take the same rows of
every tensor are faster in a model than the same kernels divided by output channels.

The lines of the planned arena are followed through two inferences, with caches that hold all of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kernels.shares import Box, Shares, divided_along
from kernels.space import Candidate
from tuner.devices.device import Together
from tuner.graph.plan import Plan, Tensor, Unplannable, plan

if TYPE_CHECKING:
    from tuner.devices.builder import LocalBuilder
    from tuner.graph import Lowered
    from tuner.protocols import Task

_LINE = 64
_WRITE = 1 / 10
_READ = 1 / 150
"""Seconds for a line, in round trips of a line between the CPUs."""

_SAMPLED = 13
"""One line of so many is followed: an odd prime, since rows and channels are multiples of powers of two."""

_SWEEPS = 4

_Touched = tuple[Sequence[NDArray[np.int64]], Sequence[NDArray[np.int64]]]
"""By thread, the numbers of the lines that a call reads, and of those that it writes."""

Options = Mapping[str, Mapping[Candidate, float]]
"""By task key, candidates with their seconds alone, the fastest first."""


class Sharing:
    """Implements `Neighbours` for kernels of `threads` threads. `round_trip_s` measures the round trip of a line
    between the CPUs; None where it cannot be measured."""

    def __init__(self, builder: LocalBuilder, threads: int, round_trip_s: Callable[[], float | None]) -> None:
        self._builder = builder
        self._threads = threads
        self._measured_s = round_trip_s
        self._shares: dict[tuple[str, Candidate], Shares] = {}

    def alternatives(self, task: Task, candidates: Sequence[Candidate]) -> Mapping[Candidate, tuple[Candidate, float]]:
        """The same kernels with the threads' parts taken along other loops: see `kernels.passes.ThreadShare`. A form
        takes longer alone in which a thread has more to write."""
        found: dict[Candidate, tuple[Candidate, float]] = {}
        for candidate in candidates:
            forms = self._builder.shares(task, [candidate], self._threads)
            self._shares.update({(task.key, form): shares for form, shares in forms.items()})
            most = forms[candidate].largest() if candidate in forms else 1.0
            others = {form: shares for form, shares in forms.items() if form not in candidates}
            found.update({form: (candidate, max(s.largest() / most, 1.0)) for form, s in others.items()})
        return found

    def choose(self, graph: Lowered, options: Options) -> Together | None:
        """Each task is settled in turn, until none changes: from the fastest alone, from those whose threads read
        least in common, and from those that are divided alike, since a chain of kernels may be better only when all of
        it has changed. A kernel whose threads'
        parts are not known takes part by its own time alone."""
        round_trip_s = self._measured_s()
        if round_trip_s is None:
            return None
        try:
            planned = plan(graph)
        except Unplannable:
            return None
        for task in graph.tasks:
            unknown = [c for c in options.get(task.key, ()) if (task.key, c) not in self._shares]
            if unknown:
                self.alternatives(task, unknown)
        return together(graph, planned, self._distinct(options), self._shares, round_trip_s)

    def _distinct(self, options: Options) -> dict[str, dict[Candidate, float]]:
        """Of candidates whose threads touch the same, the fastest."""
        kept: dict[str, dict[Candidate, float]] = {}
        for key, found in options.items():
            by_shares: dict[Shares | None, Candidate] = {}
            for candidate in sorted(found, key=found.__getitem__):
                by_shares.setdefault(self._shares.get((key, candidate)), candidate)
            kept[key] = {candidate: found[candidate] for candidate in by_shares.values()}
        return kept


def together(
    graph: Lowered, planned: Plan, options: Options, shares: Mapping[tuple[str, Candidate], Shares],
    round_trip_s: float,
) -> Together:  # fmt: skip
    """See `Sharing.choose`; `shares` are by task key and candidate."""
    weights = {task.key: task.weight for task in graph.tasks}
    traffic = _Traffic(planned, graph.kernels, round_trip_s)
    fastest = {key: next(iter(found)) for key, found in options.items() if found}

    def seconds(candidates: Mapping[str, Candidate]) -> tuple[float, float]:
        alone = sum(weights[key] * options[key][candidate] for key, candidate in candidates.items())
        return alone, traffic.seconds({k: s for k, c in candidates.items() if (s := shares.get((k, c))) is not None})

    def settled(chosen: dict[str, Candidate]) -> dict[str, Candidate]:
        best = sum(seconds(chosen))
        for _ in range(_SWEEPS):
            before = best
            for key in chosen:
                for candidate in options[key]:
                    if candidate == chosen[key]:
                        continue
                    total = sum(seconds({**chosen, key: candidate}))
                    if total < best:
                        best, chosen = total, {**chosen, key: candidate}
            if best == before:
                break
        return chosen

    apart = {
        key: min(options[key], key=lambda c: traffic.read_by_several(key, shares.get((key, c)))) for key in fastest
    }
    alike = min(_alike(traffic.order, fastest, options, shares), key=lambda c: sum(seconds(c)), default=fastest)
    best = min(map(settled, (fastest, apart, alike)), key=lambda candidates: sum(seconds(candidates)))
    return Together(best, *seconds(best), seconds(fastest))


def _alike(
    order: Sequence[str], fastest: Mapping[str, Candidate], options: Options,
    shares: Mapping[tuple[str, Candidate], Shares],
) -> Iterator[dict[str, Candidate]]:  # fmt: skip
    """Choices in which all tasks up to one, in the order of their calls, are divided along the same axis of their
    outputs, and those behind it are the fastest alone: early layers of a network have many rows, late ones many
    channels."""
    along = {pair: divided_along(found) for pair, found in shares.items()}
    for axis in sorted({axis for axis in along.values() if axis is not None}):
        chosen = dict(fastest)
        for key in dict.fromkeys(key for key in order if key in fastest):
            form = next((c for c in options[key] if along.get((key, c)) == axis), None)
            if form is not None and form != chosen[key]:
                chosen = {**chosen, key: form}
                yield chosen


class _Traffic:
    """What the lines that threads share cost in one inference of a planned model."""

    def __init__(self, planned: Plan, kernels: Mapping[str, str], round_trip_s: float) -> None:
        self._calls = [(kernels[c.kernel], c.arguments) for c in planned.calls if c.kernel in kernels]
        self._lines = -(-planned.arena_bytes // _LINE) + 1
        self._round_trip_s = round_trip_s
        self.order = [key for key, _ in self._calls]
        self._touched: dict[tuple[int, int], _Touched] = {}

    def seconds(self, shares: Mapping[str, Shares]) -> float:
        """With these shares, by task key, in an inference after another one."""
        holders = np.zeros(self._lines, np.uint64)  # a bit for each thread that has the line in its caches
        writers = np.full(self._lines, -1, np.int8)
        calls = [self._lines_of(n, shares[key]) for n, (key, _) in enumerate(self._calls) if key in shares]
        trips = 0.0
        for _ in range(2):
            trips = sum(_call(holders, writers, touched) for touched in calls)
        return trips * _SAMPLED * self._round_trip_s

    def read_by_several(self, key: str, shares: Shares | None) -> int:
        """Sampled lines that more than one thread reads in the calls of a task."""
        if shares is None:
            return self._lines
        calls = [self._lines_of(n, shares)[0] for n, (called, _) in enumerate(self._calls) if called == key]
        return sum(sum(map(len, read)) - len(np.unique(np.concatenate(read))) for read in calls)

    def _lines_of(self, number: int, shares: Shares) -> _Touched:
        known = self._touched.get((number, id(shares)))
        if known is None:
            arguments = self._calls[number][1]
            read = [_touched(arguments, boxes) for boxes in shares.reads]
            written = [_touched(arguments, boxes) for boxes in shares.writes]
            known = self._touched[number, id(shares)] = (read, written)
        return known


def _call(holders: NDArray[Any], writers: NDArray[Any], touched: _Touched) -> float:
    """The cost of one call's lines, in round trips: of the thread that has most. Changes who holds which."""
    read, written = touched
    costs = [0.0] * len(read)
    for thread, lines in enumerate(read):
        held = holders[lines]
        costs[thread] += _READ * np.count_nonzero((held != 0) & (held & _bit(thread) == 0))
    for thread, lines in enumerate(read):
        holders[lines] |= _bit(thread)
    for thread, lines in enumerate(written):
        before = holders[lines]
        others = before & ~_bit(thread)
        one = (others & (others - np.uint64(1)) == 0) & (before == others) & (writers[lines] != thread)
        costs[thread] += _WRITE * np.count_nonzero((others != 0) & ~one) + _READ * np.count_nonzero((others != 0) & one)
    for thread, lines in enumerate(written):
        holders[lines] = _bit(thread)
        writers[lines] = thread
    return max(costs)


def _bit(thread: int) -> np.uint64:
    return np.uint64(1 << (thread % 64))


def _touched(arguments: Sequence[Tensor], boxes: frozenset[tuple[int, Box]]) -> NDArray[np.int64]:
    """The sampled lines of the arena in these boxes of a call's arguments."""
    parts = [np.empty(0, np.int64)]
    for number in sorted({number for number, _ in boxes}):
        tensor = arguments[number]
        if tensor.place.kind == "arena":
            these = frozenset(box for other, box in boxes if other == number)
            parts.append(_lines_of(tensor.shape, np.dtype(tensor.dtype).itemsize, these) + tensor.place.at // _LINE)
    lines = np.unique(np.concatenate(parts))
    sampled: NDArray[np.int64] = lines[lines % _SAMPLED == 0]
    return sampled


@functools.lru_cache(maxsize=1024)
def _lines_of(shape: tuple[int, ...], itemsize: int, boxes: frozenset[Box]) -> NDArray[np.int64]:
    """The lines of a dense tensor, counted from its first, that some boxes of its elements touch."""
    marked = np.zeros(shape, bool)
    for box in boxes:
        marked[tuple(slice(begin, end) for begin, end in box)] = True
    found: NDArray[np.int64] = np.unique(np.flatnonzero(marked) * itemsize // _LINE)
    return found
