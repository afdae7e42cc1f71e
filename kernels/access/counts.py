"""The counts of a program's accesses, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Access:
    """One load or store of a program, over all of its warps and loops.

    `requests` are instructions of a warp. Of global memory, `transactions` are the sectors of 32 bytes that they
    touch, and `least` as many as would hold the bytes that they touch. Of shared memory, `transactions` are the passes
    that the banks need, and `least` as many as they would need without a conflict. `strides`: the bytes from one value
    of a thread index to the next, None where the index is not linear in it. `exact` is False where the count is an
    estimate: indices that depend on data (taken to be apart), or too many iterations to look at each.
    """

    buffer: str
    scope: str
    store: bool
    itemsize: int
    vector: int
    strides: Mapping[str, int | None]
    requests: int
    transactions: int
    least: int
    exact: bool = True

    @property
    def excess(self) -> int:
        return self.transactions - self.least


@dataclass(frozen=True)
class LaunchAccess:
    """The accesses of one launch. `opaque` counts pointers that are given to intrinsics: what is touched by them is not
    known."""

    grid: int
    threads: int
    accesses: tuple[Access, ...]
    opaque: int = 0
    shared_bytes: int = 0

    def of(self, scope: str) -> tuple[Access, ...]:
        """Those of `global` or `shared` memory."""
        return tuple(access for access in self.accesses if access.scope == scope)

    def total(self, scope: str, name: str) -> int:
        """The sum of a count over the accesses of a scope."""
        return sum(int(getattr(access, name)) for access in self.of(scope))

    @property
    def exact(self) -> bool:
        return self.opaque == 0 and all(access.exact for access in self.accesses)

    def to_json(self) -> dict[str, Any]:
        """Totals, then each access."""
        return {
            "grid": self.grid, "threads": self.threads, "exact": self.exact, "opaque": self.opaque,
            "shared_bytes": self.shared_bytes,
            "sectors": self.total("global", "transactions"), "least_sectors": self.total("global", "least"),
            "bank_passes": self.total("shared", "transactions"), "bank_conflicts": self.total("shared", "excess"),
            "accesses": [asdict(access) for access in self.accesses],
        }  # fmt: skip
