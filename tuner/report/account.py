"""Where the time of one inference goes: kernels, launches, memory; each beside its certified time and lower bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.caveats import Caveats
from tuner.report import units
from tuner.report.tables import Kernel, Table

ADDS_UP = 0.02
"""The sum of the parts may differ from the time end to end by this share of it."""

RUNTIME, MEMORY = "launches and runtime", "memory: allocation, views, release"

_NEAR = 1.25  # times its lower bound: little is left to gain
_MUCH = 1 / 3  # of what a kernel takes above its lower bound: what explains as much is what to look at first


@dataclass(frozen=True)
class Part:
    """One kind of call, all calls of an inference together. `certified_s` and `bound_s` are None where not known.

    `is_kernel` is False for what the runtime does between kernels: its lower bound is 0.
    """

    name: str
    calls: int
    seconds: float
    certified_s: float | None
    bound_s: float | None
    limit: str
    is_kernel: bool = True

    @property
    def above_s(self) -> float | None:
        """Seconds above the lower bound."""
        return None if self.bound_s is None else max(self.seconds - self.bound_s, 0.0)


def parts(summary: Mapping[str, Any], kernels: Sequence[Kernel]) -> list[Part]:
    """What takes the most above its lower bound first; what has no bound counts whole. Empty without an account."""
    account = summary.get("account")
    if account is None:
        return []
    by_task = {kernel.data["task"]: kernel for kernel in kernels}
    found = [_kernel(row, by_task.get(row["task"]), summary.get("ceilings") or {}) for row in account["kernels"]]
    for name in (RUNTIME, MEMORY):
        row = account["runtime" if name == RUNTIME else "memory"]
        if row["calls"]:  # a static model allocates nothing
            found.append(Part(name, row["calls"], row["seconds"], None, 0.0, "runtime", is_kernel=False))
    return sorted(found, key=lambda part: -(part.seconds if part.above_s is None else part.above_s))


def _kernel(row: Mapping[str, Any], kernel: Kernel | None, ceilings: Mapping[str, Any]) -> Part:
    calls, seconds = row["calls"], row["seconds"]
    if kernel is None:
        return Part(row["symbol"], calls, seconds, None, None, "")
    data = kernel.data
    bound = data.get("lower_bound_s")
    return Part(
        f"#{kernel.rank} {data['name']}",
        calls,
        seconds,
        None if kernel.used_s is None else kernel.used_s * calls,
        None if bound is None else bound * calls,
        _limit(seconds / calls if calls else 0.0, kernel, ceilings),
    )


def _limit(seconds: float, kernel: Kernel, ceilings: Mapping[str, Any]) -> str:
    """What keeps one call of a kernel above its lower bound, in words; "" where that is not known."""
    data, certified_s = kernel.data, kernel.used_s
    bound = data.get("lower_bound_s")
    peak, bandwidth = kernel.peak, ceilings.get("bandwidth_bytes_per_s")
    if bound is None or not bandwidth or peak is None:
        return ""
    if seconds <= _NEAR * bound:
        return "near its lower bound"
    above = seconds - bound
    from_memory = (data.get("cold_bytes") or 0) / bandwidth
    if certified_s is not None and seconds - certified_s > _MUCH * above:
        return "slower inside the model"
    if from_memory > _MUCH * above:
        return "cold operand"
    of_memory = (data["bytes"] or 0) / bandwidth > (data["flops"] or 0) / peak.flops_per_s
    return "memory bound" if of_memory else "far from peak"


def rest_s(summary: Mapping[str, Any], found: Sequence[Part]) -> float:
    """What the parts leave of the time end to end; negative where they are more."""
    return float(summary["account"]["end_to_end_s"]) - sum(part.seconds for part in found)


def sentences(summary: Mapping[str, Any], found: Sequence[Part]) -> list[str]:
    """Whether the account adds up, and how far the kernels inside the model are from what was certified."""
    whole = summary["account"]["end_to_end_s"]
    off = -rest_s(summary, found) / whole
    total = sum(part.seconds for part in found)
    adds = "the account adds up" if abs(off) <= ADDS_UP else "the account does NOT add up: the machine was not quiet"
    said = [
        *Caveats.of_summary(summary).sentences,
        f"All parts together take {units.milliseconds(total)}, the model {units.milliseconds(whole)}"
        f" ({units.change(off)}): {adds}.",
    ]
    known = [part for part in found if part.certified_s is not None]
    certified = sum(part.certified_s or 0.0 for part in known)
    if certified:
        inside = sum(part.seconds for part in known)
        said.append(
            f"Inside the model the kernels take {units.milliseconds(inside)}, certified"
            f" {units.milliseconds(certified)} ({units.change(inside / certified - 1)})."
        )
    return said


def table(summary: Mapping[str, Any], found: Sequence[Part]) -> Table:
    """One row a part, then what is left, then the whole."""
    whole = summary["account"]["end_to_end_s"]
    rows = [
        (part.name, units.count(part.calls), units.milliseconds(part.seconds), units.percent(part.seconds / whole),
         units.milliseconds(part.certified_s), units.milliseconds(part.bound_s if part.is_kernel else None),
         units.milliseconds(part.above_s), part.limit)
        for part in found
    ]  # fmt: skip
    rest, none = rest_s(summary, found), units.MISSING
    rows.append(("not accounted for", "", units.milliseconds(rest), units.percent(rest / whole), none, none, none, ""))
    rows.append(("end to end", "", units.milliseconds(whole), units.percent(1.0), none, none, none, ""))
    caveats = Caveats.of_summary(summary)
    inside, alone = caveats.model.beside("inside the model"), caveats.kernel.beside("certified")
    headers = ("part", "calls", inside, "of it", alone, "lower bound", caveats.model.beside("above it"), "limited by")
    return Table(headers, tuple(rows), frozenset({0, 7}))
