"""Statistics of timing samples: the median and its interval, when to stop, which of two is faster. Pure functions."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.protocols import Policy
from tuner.records import Fidelity, Label

MEANINGFUL = 0.005
"""A difference under 0.5 % does not count: rebuilding the same source moves code placement by as much."""

COARSEST_SAME = 0.05
"""A comparison that may miss a difference of 5 % never concludes SAME."""

LEAST_ROUNDS = 3
"""Fewer pairs give no interval of a difference, so as many are run even when the time is over."""

RARE = 4.0
"""A kernel that costs this many times the cheapest takes part in some of the rounds only, for half of the others'
time."""

_ROUNDING = 1e-9  # of a logarithm
_RESAMPLES = 2000  # the 2.5 % tail then rests on 50 resamples; more moves the bound by far less than the noise
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
"""Student's t at 97.5 % by the number of values (one more than the degrees of freedom)."""

_FEW_PAIRS = 6  # the fewest for which order statistics reach 95 %: 1 - 2 * 2**-6 = 0.969

# NVIDIA nvbench, stdrel_criterion: the noise of an inherently noisy benchmark that has settled will not shrink.
_NOISE_WINDOW = 512
_NOISE_LEAST = 64
_NOISE_THRESHOLD = 0.05
_NOISE_FIRST = 5  # nvbench gives no deviation for fewer samples


class StopRule(enum.StrEnum):
    """Which rule ended the sampling of a measurement, as it is stored; from the weakest evidence to the strongest."""

    CANNOT_WIN = "no contender"  # its median is above `Policy.enough_above_s`
    TIME_LIMIT = "time limit"
    ONE_LONG_CALL = "one call is long enough"
    NOISE_STABLE = "noise stable"
    HALF_WIDTH = "half-width"
    ENOUGH_SAMPLES = "enough samples"


@dataclass(frozen=True)
class Verdict:
    """`ratio` is the median of first / second in time (below 1: the first is faster), `interval` its 95 %
    interval; both None when there were fewer than three pairs.

    Label and ratio are of one statistic: raises ValueError where a ratio within half a per cent, or on the other side,
    is called FASTER or SLOWER.
    """

    label: Label
    ratio: float | None
    interval: tuple[float, float] | None

    def __post_init__(self) -> None:
        against = {Label.FASTER: 1.0, Label.SLOWER: -1.0}.get(self.label, 0.0)
        if self.ratio is None or not against:
            return
        if against * math.log(self.ratio) > -math.log1p(MEANINGFUL) + _ROUNDING:
            raise ValueError(f"a ratio of {self.ratio} cannot be called {self.label}")


def median(samples: Sequence[float]) -> float:
    """The median. Raises ValueError when there are no samples."""
    if not len(samples):
        raise ValueError("no samples, no median")
    return float(np.median(samples))


@functools.lru_cache(maxsize=4096)
def _interval_rank(count: int, confidence: float) -> int:
    """The largest k with P(Binomial(count, 1/2) < k) <= (1 - confidence) / 2; 0 when there is none."""
    tail, k = 0.0, 0
    while k <= count // 2:
        log_choose = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        tail += math.exp(log_choose - count * math.log(2.0))
        if tail > (1.0 - confidence) / 2.0:
            break
        k += 1
    return k


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """A distribution-free interval of the median: the k-th smallest and the k-th largest sample.

    The number of samples below the true median is Binomial(n, 1/2) whatever the distribution, so the
    chance to miss is at most 2 P(Binomial(n, 1/2) < k) (David and Nagaraja, Order Statistics, 2003,
    section 7.1). None when even (smallest, largest) is not wide enough: under six samples for 95 %.
    """
    rank = _interval_rank(len(samples), confidence)
    if rank == 0:
        return None
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    return float(ordered[rank - 1]), float(ordered[-rank])


def relative_half_width(samples: Sequence[float]) -> float:
    """Half the width of the median's 95 % interval over the median; infinite where there is no interval."""
    interval = median_interval(samples)
    if interval is None:
        return math.inf
    return 0.5 * (interval[1] - interval[0]) / median(samples)


def noise_is_stable(samples: Sequence[float]) -> bool:
    """nvbench's second way to stop: over the last <= 512 running relative deviations (of the first n samples,
    for each n), more than 64 of them, their own deviation is under 5 % of their mean."""
    values = np.asarray(samples, dtype=np.float64)
    if values.size <= _NOISE_LEAST:
        return False
    shifted = values - values[0]  # keeps the sums of squares from cancelling
    counts = np.arange(1, values.size + 1)
    means = np.cumsum(shifted) / counts
    variances = np.maximum(np.cumsum(shifted**2) / counts - means**2, 0.0)
    deviations = np.sqrt(variances) / (means + values[0])
    tail = deviations[_NOISE_FIRST - 1 :][-_NOISE_WINDOW:]
    if tail.size <= _NOISE_LEAST:
        return False
    return bool(tail.std() < _NOISE_THRESHOLD * tail.mean())


def should_stop(samples: Sequence[float], policy: Policy, elapsed: float) -> StopRule | None:
    """The rule by which sampling may end now, or None. `elapsed` is the seconds of timed work so far, dropped samples
    included."""
    if not len(samples):
        return None
    if elapsed >= policy.max_time_s:
        return StopRule.TIME_LIMIT
    if len(samples) < policy.min_samples:
        return None
    if policy.enough_above_s is not None and median(samples) > policy.enough_above_s:
        return StopRule.CANNOT_WIN
    if elapsed < policy.min_time_s:
        return None
    if policy.half_width <= 0:
        return StopRule.ENOUGH_SAMPLES
    if relative_half_width(samples) <= policy.half_width:
        return StopRule.HALF_WIDTH
    if policy.fidelity is Fidelity.CERTIFY and noise_is_stable(samples):
        return StopRule.NOISE_STABLE
    return None


def periods(costs: Sequence[float]) -> list[int]:
    """The period of each of several kernels in rounds, from the cost of one of its blocks: 1 takes part in every round.

    Kernels that cost over RARE times the cheapest take part in fewer rounds, for half of the others' time.
    """
    most = RARE * min(costs)
    others = sum(cost for cost in costs if cost <= most)
    return [1 if cost <= most else max(1, round(2.0 * cost / others)) for cost in costs]


def undisturbed_rounds(preempted: Sequence[bool], minimum: int) -> list[int]:
    """The indices of the samples to keep: those during which the process was not preempted.

    When fewer than `minimum`, or fewer than half, would be left, all are kept: on a machine that always preempts,
    preemption is part of the condition measured, and dropping samples must not leave an empty table.
    """
    undisturbed = [index for index, was_preempted in enumerate(preempted) if not was_preempted]
    enough = len(undisturbed) >= minimum and 2 * len(undisturbed) >= len(preempted)
    return undisturbed if enough else list(range(len(preempted)))


def without_preempted(samples: Sequence[float], preempted: Sequence[bool], minimum: int) -> list[float]:
    """The samples that `undisturbed_rounds` keeps."""
    if len(samples) != len(preempted):
        raise ValueError(f"{len(samples)} samples, {len(preempted)} marks")
    return [samples[index] for index in undisturbed_rounds(preempted, minimum)]


def log_ratio_interval(
    ratios: NDArray[np.float64], seed: int = 0, groups: Sequence[int] | None = None
) -> tuple[float, float]:
    """The 95 % interval of the median of log ratios, by a seeded percentile bootstrap.

    With three to five ratios resampling cannot show the tails: there the range is widened by its own width
    on both sides, which for three is Student's interval (2.48 deviations against 2.54) and wider beyond.

    `groups` says from which process each ratio is. The memory layout is fixed for the life of a process, so ratios
    of one process are not independent: with two processes or more the interval also holds that of the processes'
    medians (Student's for under ten, the bootstrap beyond). Raises ValueError under three ratios.
    """
    if ratios.size < LEAST_ROUNDS:
        raise ValueError(f"{ratios.size} pairs are too few for an interval; {LEAST_ROUNDS} are needed")
    low, high = _pooled_interval(ratios, seed)
    processes = np.unique(groups) if groups is not None else np.zeros(1)
    if processes.size < 2:
        return low, high
    process_of = np.asarray(groups)
    medians = np.array([np.median(ratios[process_of == process]) for process in processes])
    between = _between_processes(medians, seed)
    return min(low, between[0]), max(high, between[1])


def _between_processes(medians: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The 95 % interval of what the medians of several processes scatter around."""
    if medians.size not in _STUDENT:
        return _pooled_interval(medians, seed)
    reach = _STUDENT[medians.size] * float(medians.std(ddof=1)) / math.sqrt(medians.size)
    middle = float(medians.mean())
    return middle - reach, middle + reach


def _pooled_interval(ratios: NDArray[np.float64], seed: int) -> tuple[float, float]:
    if ratios.size < _FEW_PAIRS:
        low, high = float(ratios.min()), float(ratios.max())
        return low - (high - low), high + (high - low)
    picks = np.random.default_rng(seed).integers(0, ratios.size, (_RESAMPLES, ratios.size))
    low, high = np.quantile(np.median(ratios[picks], axis=1), [0.025, 0.975])
    return float(low), float(high)


def noise_floor(
    first: Sequence[float], second: Sequence[float], seed: int = 0, groups: Sequence[int] | None = None
) -> float:
    """The A/A noise floor, from pairs of one thing against itself: half the outer end of the 95 % interval of their
    median log ratio. That is about one standard error where only chance is at work; a difference has to exceed two.

    Infinite under three pairs: a run that did not measure its own noise can decide nothing.
    """
    if len(first) < LEAST_ROUNDS:
        return math.inf
    low, high = log_ratio_interval(_log_ratios(first, second), seed, groups)
    return 0.5 * max(abs(low), abs(high))


def verdict(
    a_blocks: Sequence[float],
    b_blocks: Sequence[float],
    noise_floor: float,
    seed: int = 0,
    groups: Sequence[int] | None = None,
) -> Verdict:
    """Whether `a` is faster than `b`, from paired blocks (the i-th of each measured in the same round).

    FASTER or SLOWER only if the 95 % interval of the median log ratio lies beyond +-0.5 % and twice the
    A/A noise floor, SAME if it lies inside and that is at most 5 %, else UNDECIDED. A verdict is never forced.
    `groups` as in `log_ratio_interval`. Raises ValueError when the lengths differ.
    """
    if len(a_blocks) != len(b_blocks):
        raise ValueError(f"{len(a_blocks)} blocks against {len(b_blocks)}: a paired comparison needs pairs")
    if len(a_blocks) < LEAST_ROUNDS:
        return Verdict(Label.UNDECIDED, None, None)
    ratios = _log_ratios(a_blocks, b_blocks)
    middle = float(np.median(ratios))
    low, high = log_ratio_interval(ratios, seed, groups)
    low, high = min(low, middle), max(high, middle)
    threshold = max(math.log1p(MEANINGFUL), 2.0 * noise_floor)
    label = _label(low, high, threshold)
    if label is Label.SAME and threshold > math.log1p(COARSEST_SAME):
        label = Label.UNDECIDED
    return Verdict(label, math.exp(middle), (math.exp(low), math.exp(high)))


def unpaired_verdict(a_samples: Sequence[float], b_samples: Sequence[float]) -> Verdict:
    """Whether `a` is faster than `b` where their samples were not interleaved.

    The machine's drift cannot be told from a difference, so the verdict is never SAME, and FASTER or SLOWER only where
    the medians' intervals lie 0.5 % apart (too few samples for an interval: their whole range stands for it).
    `interval` holds the extreme ratios.
    """
    if not len(a_samples) or not len(b_samples):
        return Verdict(Label.UNDECIDED, None, None)
    a, b = (median_interval(s) or (min(s), max(s)) for s in (a_samples, b_samples))
    low, high = a[0] / b[1], a[1] / b[0]
    label = _label(math.log(low), math.log(high), math.log1p(MEANINGFUL))
    if label is Label.SAME:
        label = Label.UNDECIDED
    return Verdict(label, median(a_samples) / median(b_samples), (low, high))


def _label(low: float, high: float, threshold: float) -> Label:
    if high < -threshold:
        return Label.FASTER
    if low > threshold:
        return Label.SLOWER
    if -threshold <= low and high <= threshold and math.isfinite(threshold):
        return Label.SAME
    return Label.UNDECIDED


def _log_ratios(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    return np.log(np.asarray(first, dtype=np.float64)) - np.log(np.asarray(second, dtype=np.float64))
