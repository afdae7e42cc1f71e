"""Sectors and bank conflicts of one access, over all warps and all iterations of the loops around it.

An index is a sum of terms. Those that share no variable with the threads move a warp's whole pattern by a number of
elements: how many sectors that touches depends on the number modulo a sector alone. So the residues are counted term by
term, and the pattern is looked at once for each residue, which is exact. Only terms whose variables stand in one term
with a thread are enumerated together with the threads.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.access.counts import Access
from kernels.access.indices import Bounds, Unknown, Values, evaluate, terms, variables
from kernels.access.nests import WARP, Launch, Touch
from kernels.launch_plan import ITEM_BYTES

SECTOR_BYTES = 32
"""Of global memory: what an access moves at least, on every NVIDIA GPU since Maxwell."""

BANKS = 32
BANK_BYTES = 4
"""Of shared memory (CUDA programming guide, compute capability 5 and later)."""

_LARGEST = 1 << 18
"""A power of two beyond any shared memory: swizzled patterns are alike only where they lie at the same address."""

_RESIDUES = 64
"""Places of one pattern that are looked at, where it is not alike everywhere."""

BUDGET = 1 << 16
"""Indices that are looked at for one access by default; further ones are sampled evenly."""

_Term = tuple[int, Any]


@dataclass(frozen=True)
class _Pattern:
    """Indices [warps and iterations, lanes, vector] of full warps; lanes that are not there are -1 in `there`.

    `weight`: how many times as many warps and iterations the program has. `exact`: they are all here.
    """

    indices: Values
    there: np.ndarray[Any, Any]
    weight: float
    exact: bool


def count(launch: Launch, touch: Touch, budget: int = BUDGET) -> Access:
    """Count one access. `budget` bounds the indices that are looked at."""
    try:
        return _counted(launch, touch, budget)
    except Unknown:
        return _unknown(launch, touch)


def _counted(launch: Launch, touch: Touch, budget: int) -> Access:
    """Raises Unknown."""
    itemsize = ITEM_BYTES.get(touch.dtype, 4)
    threads = {name: variable for name, (variable, _) in launch.threads.items()}
    split = _split(touch, list(threads.values()))
    pattern = _pattern(launch, touch, split.with_threads, budget)
    vector, contiguous = _vector(pattern.indices)
    strides = {name: _stride(split.with_threads, variable, itemsize) for name, variable in threads.items()}
    if vector > 1 and not contiguous:  # compiled to one instruction an element
        pattern = _elements(pattern)
    alike = SECTOR_BYTES if touch.scope == "global" else _LARGEST if touch.granule else BANK_BYTES
    residues = _residues(split.without_threads, touch.extents, max(alike // itemsize, 1))
    looked_at = dict(list(residues.items())[:: max(-(-len(residues) // _RESIDUES), 1)])
    served = _sectors if touch.scope == "global" else functools.partial(_passes, granule=touch.granule)
    found = {residue: served(pattern, residue, itemsize) for residue in looked_at}
    runs = _runs(launch, touch, split.used) * sum(residues.values()) / max(sum(looked_at.values()), 1)
    each = [_requests(pattern) * sum(looked_at.values())]
    each += [sum(found[r][n] * times for r, times in looked_at.items()) for n in (0, 1)]
    requests, transactions, least = (round(number * runs * pattern.weight) for number in each)
    exact = pattern.exact and looked_at == residues
    return Access(
        touch.buffer, touch.scope, touch.store, itemsize, vector, strides, requests, transactions, least, exact
    )


@dataclass(frozen=True)
class _Split:
    with_threads: tuple[_Term, ...]
    without_threads: tuple[tuple[_Term, ...], ...]
    used: tuple[Any, ...]


def _split(touch: Touch, threads: Sequence[Any]) -> _Split:
    """The terms of an index that have to do with the threads, and groups of others that share no variable. Constants
    stand with the first."""
    parts = [(term, set(variables(term[1]))) for term in terms(touch.index)]
    groups: list[tuple[list[_Term], set[Any]]] = [([], set(threads))]
    for term, used in parts:
        mine = [group for group in groups if used & group[1]] if used else groups[:1]
        merged = ([term], set(used))
        for group in mine:
            merged[0].extend(group[0])
            merged[1].update(group[1])
        rest = [group for group in groups if not any(group is other for other in mine)]
        groups = [merged, *rest] if any(group is groups[0] for group in mine) else [*rest, merged]
    used_at_all = {variable for _, used in parts for variable in used}
    return _Split(tuple(groups[0][0]), tuple(tuple(g[0]) for g in groups[1:]), tuple(used_at_all))


def _pattern(launch: Launch, touch: Touch, with_threads: Sequence[_Term], budget: int) -> _Pattern:
    """The values of the terms that have to do with the threads, for each warp and each value of their other
    variables."""
    dims = [launch.threads.get(f"threadIdx.{axis}", (None, 1)) for axis in "xyz"]
    number = math.prod(extent for _, extent in dims)
    warps = -(-number // WARP)
    lanes = np.arange(warps * WARP, dtype=np.int64)
    there = (lanes < number).reshape(warps, WARP)
    lanes = np.minimum(lanes, number - 1)
    threads = {variable for variable, _ in dims if variable is not None}
    used = dict.fromkeys(v for _, expression in with_threads for v in variables(expression) if v not in threads)
    bounds = {variable: touch.extents[variable] for variable in used if variable in touch.extents}
    domain = math.prod(extent for _, extent in bounds.values())
    taken = min(domain, max(budget // (warps * WARP), 1))
    points = _spread(taken, domain)
    values: dict[Any, Values] = {}
    step = 1
    for variable, extent in dims:
        if variable is not None:
            values[variable] = np.tile(lanes // step % extent, taken)
        step *= extent
    for variable, (low, extent) in bounds.items():
        values[variable] = np.repeat(points % max(extent, 1) + low, warps * WARP)
        points = points // max(extent, 1)
    rows = taken * warps
    total = sum((factor * evaluate(e, values) for factor, e in with_threads), np.zeros((1, 1), np.int64))
    total = np.broadcast_to(total, (rows * WARP, total.shape[1])).reshape(rows, WARP, -1)
    return _Pattern(total, np.tile(there, (taken, 1)), domain / max(taken, 1), taken == domain)


def _vector(indices: Values) -> tuple[int, bool]:
    """The elements that a thread accesses at once, and whether they lie beside one another."""
    width = int(indices.shape[2])
    return width, width == 1 or bool((np.diff(indices, axis=2) == 1).all())


def _elements(pattern: _Pattern) -> _Pattern:
    """A request for each element of a vector."""
    rows, lanes, width = pattern.indices.shape
    apart = pattern.indices.transpose(0, 2, 1).reshape(rows * width, lanes, 1)
    return _Pattern(apart, np.repeat(pattern.there, width, axis=0), pattern.weight, pattern.exact)


def _requests(pattern: _Pattern) -> int:
    return int(pattern.there.any(axis=1).sum())


def _stride(with_threads: Sequence[_Term], variable: Any, itemsize: int) -> int | None:
    """The bytes from one value of a variable to the next; None where an index is not linear in it."""
    stride = 0
    for factor, expression in with_threads:
        if isinstance(expression, type(variable)) and expression.same_as(variable):
            stride += factor * itemsize
        elif any(variable.same_as(v) for v in variables(expression)):
            return None
    return stride


def _residues(groups: Sequence[Sequence[_Term]], bounds: Bounds, modulus: int) -> dict[int, int]:
    """How often the sum of terms has each residue, over all values of their variables."""
    times = {0: 1}
    for group in groups:
        own, sums = _residues_of(group, bounds, modulus), dict[int, int]()
        for (one, often), (other, as_often) in itertools.product(times.items(), own.items()):
            residue = (one + other) % modulus
            sums[residue] = sums.get(residue, 0) + often * as_often
        times = sums
    return times


def _residues_of(group: Sequence[_Term], bounds: Bounds, modulus: int) -> dict[int, int]:
    used = list(dict.fromkeys(v for _, expression in group for v in variables(expression)))
    extents = [bounds.get(v, (0, 1)) for v in used]
    domain = math.prod(extent for _, extent in extents)
    taken = min(domain, 1 << 20)
    points = _spread(taken, domain)
    values: dict[Any, Values] = {}
    for variable, (low, extent) in zip(used, extents, strict=True):
        values[variable] = points % max(extent, 1) + low
        points = points // max(extent, 1)
    total = sum((factor * evaluate(e, values)[:, 0] for factor, e in group), np.zeros(1, np.int64))
    found = np.bincount(np.broadcast_to(total % modulus, (taken,)))
    return {int(residue): int(found[residue]) * domain // max(taken, 1) for residue in found.nonzero()[0]}


def _spread(count: int, domain: int) -> Values:
    """So many numbers below `domain`, evenly; all of them where they are as many."""
    if count == domain:
        return np.arange(count, dtype=np.int64)
    return (np.arange(count) * (domain / max(count, 1))).astype(np.int64)


def _runs(launch: Launch, touch: Touch, used: Sequence[Any]) -> int:
    """How often the access is run for each value of the variables of its index, for one warp."""
    threads = [variable for variable, _ in launch.threads.values()]
    blocks = [(variable, extent) for variable, extent in launch.blocks.values()]
    known = [*threads, *(variable for variable, _ in blocks), *used]
    loops = [e for v, (_, e) in touch.extents.items() if not any(v.same_as(other) for other in known)]
    idle = [e for v, e in blocks if not any(v.same_as(other) for other in used)]
    return int(math.prod(loops)) * int(math.prod(idle))


def _sectors(pattern: _Pattern, residue: int, itemsize: int) -> tuple[int, int]:
    """The sectors that the warps touch, and how few would hold the same bytes."""
    elements = pattern.indices + residue
    touched = _distinct(elements * itemsize // SECTOR_BYTES, pattern.there)
    distinct = _distinct(elements, pattern.there)
    return int(touched.sum()), int((-(-distinct * itemsize // SECTOR_BYTES)).sum())


def _passes(pattern: _Pattern, residue: int, itemsize: int, granule: int) -> tuple[int, int]:
    """The passes over the banks that the warps need, and how many without a conflict: a warp whose threads access 8
    (16) bytes each is served in 2 (4) parts."""
    width = itemsize * pattern.indices.shape[2]
    parts = min(max(-(-width // BANK_BYTES), 1), 4)
    parts = 1 << (parts - 1).bit_length()
    lanes = WARP // parts
    addresses = (pattern.indices + residue) * itemsize
    words = (_swizzled(addresses, granule) if granule else addresses) // BANK_BYTES
    words = words.reshape(words.shape[0] * (WARP // lanes), -1)
    there = np.repeat(pattern.there[:, :, None], pattern.indices.shape[2], axis=2).reshape(words.shape)
    passes = _conflicts(words, there)
    return int(passes.sum()), int(there.any(axis=1).sum())


def _swizzled(addresses: Values, granule: int) -> Values:
    """Where `Swizzled` of `kernels/swizzled.cuh` has what lies at these bytes."""
    chunks = BANKS * BANK_BYTES // granule
    lines, bits = addresses // (BANKS * BANK_BYTES), chunks.bit_length() - 1
    return addresses ^ ((lines ^ lines >> bits ^ lines >> 2 * bits) % chunks) * granule


def _distinct(values: Values, there: np.ndarray[Any, Any]) -> Values:
    """The number of different values in each row [rows, lanes, ...], of the lanes that are there."""
    rows = values.shape[0]
    masked = np.where(there[:, :, None], values, np.iinfo(np.int64).max).reshape(rows, -1)
    ordered = np.sort(masked, axis=1)
    present = ordered != np.iinfo(np.int64).max
    fresh = np.ones_like(present)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return np.asarray((fresh & present).sum(axis=1), np.int64)


def _conflicts(words: Values, there: np.ndarray[Any, Any]) -> Values:
    """The most different words of one bank in each row [rows, accesses]; 0 where nothing is there."""
    nothing = np.iinfo(np.int64).max
    ordered = np.sort(np.where(there, words, nothing), axis=1)
    fresh = ordered != nothing
    fresh[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    rows = np.repeat(np.arange(words.shape[0]), words.shape[1])
    banks = (ordered % BANKS).ravel()
    counts = np.bincount((rows * BANKS + banks)[fresh.ravel()], minlength=words.shape[0] * BANKS)
    return np.asarray(counts.reshape(-1, BANKS).max(axis=1), np.int64)


def _unknown(launch: Launch, touch: Touch) -> Access:
    """An access of which it is not known where: every thread is taken to have a sector, or a bank, of its own."""
    itemsize, strides = ITEM_BYTES.get(touch.dtype, 4), dict.fromkeys(launch.threads)
    threads = math.prod(extent for _, extent in launch.threads.values())
    warps = -(-threads // WARP)
    around = [v for v, _ in (*launch.threads.values(), *launch.blocks.values())]
    loops = math.prod(e for v, (_, e) in touch.extents.items() if not any(v.same_as(other) for other in around))
    times = loops * math.prod(extent for _, extent in launch.blocks.values())
    apart = threads if touch.scope == "global" else warps
    least = -(-threads * itemsize // SECTOR_BYTES) if touch.scope == "global" else warps
    return Access(
        touch.buffer, touch.scope, touch.store, itemsize, 1, strides, warps * times, apart * times, least * times,
        exact=False,
    )  # fmt: skip
