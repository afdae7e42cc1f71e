"""How a compiled CUDA program is run, as plain data. Imports only the standard library.

A plan crosses machines (`tuner bundle` here, `tuner measure` on the host with the GPU). So `from_json` checks every
field, and no plan that it accepts can name a buffer that is not there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PLAN_VERSION = 1
"""Version of the JSON form; others are rejected."""

ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e5m2"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64"), 8),
}
"""The dtypes that an argument may have, and the bytes of one element."""

GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)
MAX_THREADS = 1024
MAX_SHARED = 228 * 1024
MAX_CLUSTER = 16
MAX_BYTES = 2**40
MAX_ENTRIES = 4096
"""Limits of every architecture so far (CUDA programming guide, compute capabilities). The last two are our own."""

_KERNEL = re.compile(r"[A-Za-z_]\w{0,255}", re.ASCII)

Extent = tuple[int, int, int]


class BadPlan(ValueError):
    """The data is not a launch plan; the message names the field."""


@dataclass(frozen=True)
class Argument:
    """One tensor argument: shape and dtype, dense and row-major."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Launch:
    """One kernel launch. `args` are positions in the list of arguments followed by workspaces.

    `static_shared_bytes` is what the kernel declares itself. `dynamic_shared_bytes` is requested at the launch, and
    above 48 KiB also by the kernel's MAX_DYNAMIC_SHARED_SIZE_BYTES attribute. `cluster` is in blocks; (1, 1, 1) means a
    launch without clusters. `cooperative` requests a cooperative launch.
    """

    kernel: str
    args: tuple[int, ...]
    grid: Extent
    block: Extent
    dynamic_shared_bytes: int = 0
    static_shared_bytes: int = 0
    cluster: Extent = (1, 1, 1)
    cooperative: bool = False

    @property
    def threads(self) -> int:
        return math.prod(self.block)

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)

    @property
    def shared_bytes(self) -> int:
        return self.static_shared_bytes + self.dynamic_shared_bytes


@dataclass(frozen=True)
class LaunchPlan:
    """The launches of one program in order, on one stream.

    A launch's pointers are the `arguments` in their order (the last `num_outputs` of them are written), then one
    device allocation for each of `workspaces` (bytes), which last from the first launch to the last and are
    uninitialized before.
    """

    launches: tuple[Launch, ...]
    arguments: tuple[Argument, ...]
    num_outputs: int = 1
    workspaces: tuple[int, ...] = ()

    @property
    def num_args(self) -> int:
        return len(self.arguments)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The names of the kernels, each once, in the order of their first launch."""
        return tuple(dict.fromkeys(launch.kernel for launch in self.launches))

    def to_json(self) -> dict[str, Any]:
        return {
            "version": PLAN_VERSION,
            "arguments": [{"shape": list(a.shape), "dtype": a.dtype} for a in self.arguments],
            "num_outputs": self.num_outputs,
            "workspaces": list(self.workspaces),
            "launches": [
                {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(launch).items()}
                for launch in self.launches
            ],
        }

    @staticmethod
    def from_json(data: Any) -> LaunchPlan:
        """The inverse of `to_json`, for data from anywhere. Raises BadPlan, which names the field."""
        _keys(data, "plan", {"version", "arguments", "num_outputs", "workspaces", "launches"})
        if data["version"] != PLAN_VERSION:
            raise BadPlan(f"plan.version: {data['version']!r}, expected {PLAN_VERSION}")
        arguments = tuple(_argument(a, f"plan.arguments[{i}]") for i, a in _items(data["arguments"], "plan.arguments"))
        num_outputs = _whole(data["num_outputs"], "plan.num_outputs", 1, max(len(arguments), 1))
        workspaces = tuple(
            _whole(w, f"plan.workspaces[{i}]", 0, MAX_BYTES) for i, w in _items(data["workspaces"], "plan.workspaces")
        )
        slots = len(arguments) + len(workspaces)
        launches = tuple(
            _launch(entry, f"plan.launches[{i}]", slots) for i, entry in _items(data["launches"], "plan.launches")
        )
        if not launches or not arguments:
            raise BadPlan(f"plan.{'arguments' if launches else 'launches'}: empty")
        if sum(a.nbytes for a in arguments) + sum(workspaces) > MAX_BYTES:
            raise BadPlan("plan: more than a terabyte of buffers")
        return LaunchPlan(launches, arguments, num_outputs, workspaces)


def _launch(data: Any, where: str, slots: int) -> Launch:
    _keys(data, where, set(Launch.__dataclass_fields__))
    kernel = data["kernel"]
    if not isinstance(kernel, str) or not _KERNEL.fullmatch(kernel):
        raise BadPlan(f"{where}.kernel: not a kernel name: {kernel!r:.80}")
    args = tuple(_whole(a, f"{where}.args[{i}]", 0, slots - 1) for i, a in _items(data["args"], f"{where}.args"))
    grid = _extent(data["grid"], f"{where}.grid", GRID_LIMITS)
    block = _extent(data["block"], f"{where}.block", BLOCK_LIMITS)
    cluster = _extent(data["cluster"], f"{where}.cluster", (MAX_CLUSTER,) * 3)
    dynamic = _whole(data["dynamic_shared_bytes"], f"{where}.dynamic_shared_bytes", 0, MAX_SHARED)
    static = _whole(data["static_shared_bytes"], f"{where}.static_shared_bytes", 0, MAX_SHARED)
    if math.prod(block) > MAX_THREADS:
        raise BadPlan(f"{where}.block: {math.prod(block)} threads, at most {MAX_THREADS}")
    if dynamic + static > MAX_SHARED:
        raise BadPlan(f"{where}: {dynamic + static} bytes of shared memory, at most {MAX_SHARED}")
    if math.prod(cluster) > MAX_CLUSTER or any(g % c for g, c in zip(grid, cluster, strict=True)):
        raise BadPlan(f"{where}.cluster: {cluster} does not divide the grid {grid}, or is over {MAX_CLUSTER} blocks")
    if not isinstance(data["cooperative"], bool):
        raise BadPlan(f"{where}.cooperative: {data['cooperative']!r:.80} is neither true nor false")
    return Launch(kernel, args, grid, block, dynamic, static, cluster, data["cooperative"])


def _argument(data: Any, where: str) -> Argument:
    _keys(data, where, {"shape", "dtype"})
    shape = tuple(
        _whole(n, f"{where}.shape[{i}]", 0, MAX_BYTES) for i, n in _items(data["shape"], f"{where}.shape", limit=32)
    )
    if not isinstance(data["dtype"], str) or data["dtype"] not in ITEM_BYTES:
        raise BadPlan(f"{where}.dtype: {data['dtype']!r:.80}; known: {', '.join(ITEM_BYTES)}")
    return Argument(shape, data["dtype"])


def _keys(data: Any, where: str, names: set[str]) -> None:
    if not isinstance(data, dict):
        raise BadPlan(f"{where}: not an object")
    if data.keys() != names:
        odd = sorted(map(str, data.keys() ^ names))
        raise BadPlan(f"{where}: missing or unknown: {', '.join(odd)[:200]}")


def _items(data: Any, where: str, limit: int = MAX_ENTRIES) -> list[tuple[int, Any]]:
    if not isinstance(data, (list, tuple)) or len(data) > limit:
        raise BadPlan(f"{where}: not a list of at most {limit} entries")
    return list(enumerate(data))


def _extent(data: Any, where: str, limits: Extent) -> Extent:
    if len(_items(data, where, limit=3)) != 3:
        raise BadPlan(f"{where}: three numbers are needed")
    x, y, z = (_whole(n, where, 1, limit) for n, limit in zip(data, limits, strict=True))
    return x, y, z


def _whole(value: Any, where: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadPlan(f"{where}: {value!r:.80} is no whole number from {least} to {most}")
    return value
