"""Where the time of a compiled model goes: every call that the relax VM makes, with a time stamp on both sides of it.

The VM calls an instrument before and after each of its calls. One in Python costs microseconds each time, which is as
much as a small kernel. This one is a few lines of C that store the clock: some 50 ns, so that what it changes is far
below what the account is to be right to. That is checked, not believed: inferences with and without it alternate, and
the account holds both totals.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import InfrastructureError
from tuner.process.pinning import pin_workers, thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

if TYPE_CHECKING:
    from tuner.protocols import Array

_MOST_STAMPS = 1 << 18
_LEAST_INFERENCES = 6
_TIMEOUT_S = 120.0

_STAMP = """
#include <stdint.h>
#include <time.h>
typedef struct { int32_t type_index; uint32_t padding; union { int64_t integer; void *pointer; } value; } Any;
int64_t stamps[%d];
int64_t stamp_count = 0;
int __tvm_ffi_stamp(void *self, const Any *arguments, int32_t count, Any *result) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (stamp_count < %d) stamps[stamp_count] = now.tv_sec * 1000000000LL + now.tv_nsec;
  ++stamp_count;
  return 0;
}
"""

_BUILTIN = "vm.builtin."
_MEMORY = ("alloc_", "kill_", "null_value", "reshape", "copy", "to_device", "tensor_to", "runtime.tensor")
"""Beginnings of the VM's own functions (without their prefix) that get, give back, view or move memory. `null_value`
clears a register, which gives back what it held."""


def take(library: Path, inputs: Sequence[Array], threads: int, seconds: float) -> dict[str, Any]:
    """The account of a model's library on these inputs, in a fresh process, within about `seconds` and the loading.

    Seconds of one inference: `end_to_end_s` without the instrument; with it `kernels` (each `symbol`, `calls` and
    `seconds`, all calls together, longest first), `memory` and `runtime` (each `calls` and `seconds`; time between
    calls is the runtime's). `inferences` is how many of each were made; times are means over the middle half of pairs.
    Raises InfrastructureError, saying what failed.
    """
    with tempfile.TemporaryDirectory(prefix="tuner-account-") as folder:
        stored = Path(folder, "inputs.npz")
        np.savez(stored, *inputs)
        settings = {"library": str(library), "threads": threads, "stamp": str(_compiled(Path(folder)))}
        service = "tuner.devices.cpu.account:AccountWorker"
        try:
            with Child(service, settings, env=thread_env(threads)) as child:
                taken: dict[str, Any] = child.call("take", _TIMEOUT_S, inputs_npz_path=str(stored), seconds=seconds)
        except (ChildDied, ChildTimeout, ChildError) as error:
            raise InfrastructureError(f"{library}: no account of its time: {error}") from error
    return taken


def _compiled(folder: Path) -> Path:
    """The instrument as a shared library. Raises InfrastructureError without a C compiler."""
    compiler = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if compiler is None:
        raise InfrastructureError(
            "no account of the model's time: no C compiler found (cc, gcc or clang)",
            "install a C toolchain, e.g. the package gcc",
        )
    source, made = folder / "stamp.c", folder / "stamp.so"
    source.write_text(_STAMP % (_MOST_STAMPS, _MOST_STAMPS))
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60, text=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise InfrastructureError(f"no account of the model's time: {compiler} failed: {error}") from error
    return made


class _Stamps:
    """The instrument in this process."""

    def __init__(self, path: str) -> None:
        import tvm

        self.function = tvm.runtime.load_module(path)["stamp"]
        loaded = ctypes.CDLL(path)  # the same one: a library is loaded once a process
        self._count = ctypes.c_int64.in_dll(loaded, "stamp_count")
        self._stamps: Array = np.ctypeslib.as_array((ctypes.c_int64 * _MOST_STAMPS).in_dll(loaded, "stamps"))

    def around(self, infer: Callable[[], object]) -> Array:
        """Nanoseconds: the start of an inference, two stamps for each call in it, and its end."""
        self._count.value = 0
        start = time.perf_counter_ns()  # CLOCK_MONOTONIC, as the stamps
        infer()
        end = time.perf_counter_ns()
        count = self._count.value
        if count > _MOST_STAMPS:
            raise ValueError(f"an inference makes {count // 2} calls; there is room for {_MOST_STAMPS // 2}")
        return np.concatenate(([start], self._stamps[:count], [end]))


@dataclass(frozen=True)
class Call:
    """A call of the VM: its function, where its two stamps are, and whether no other call is around it."""

    name: str
    before: int
    after: int
    outermost: bool


class AccountWorker:
    """Runs a compiled model in a child, with and without the instrument `stamp` (a shared library)."""

    def __init__(self, library: str, threads: int, stamp: str) -> None:
        self._library = library
        self._threads = threads
        self._stamp = stamp

    def op_take(self, inputs_npz_path: str, seconds: float) -> dict[str, Any]:
        """See `take`."""
        import tvm
        from tvm import relax

        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [tvm.runtime.tensor(stored[name]) for name in stored.files]
        machine = relax.VirtualMachine(tvm.runtime.load_module(self._library), tvm.cpu())
        main = machine["main"]

        def infer() -> object:
            return main(*inputs)

        pin_workers(infer, self._threads)
        calls = _calls(machine, infer)
        stamps = _Stamps(self._stamp)
        pairs: list[tuple[float, Array]] = []
        deadline = time.perf_counter() + seconds
        while len(pairs) < _LEAST_INFERENCES or time.perf_counter() < deadline:
            machine.set_instrument(None)
            start = time.perf_counter_ns()
            infer()
            plain_ns = float(time.perf_counter_ns() - start)
            machine.set_instrument(stamps.function)
            pairs.append((plain_ns, stamps.around(infer)))
        return account(calls, pairs)


def _calls(machine: Any, infer: Callable[[], object]) -> list[Call]:
    """The calls of one inference, in the order in which they begin."""
    names: list[tuple[str, bool]] = []
    machine.set_instrument(lambda function, name, before, result, *arguments: names.append((str(name), bool(before))))
    infer()
    calls: list[Call] = []
    open_calls: list[tuple[str, int]] = []
    for index, (name, before) in enumerate(names, start=1):  # stamp 0 is the start of the inference
        if before:
            open_calls.append((name, index))
        else:
            begun, first = open_calls.pop()
            calls.append(Call(begun, first, index, not open_calls))
    return sorted(calls, key=lambda call: call.before)


def account(calls: Sequence[Call], pairs: Sequence[tuple[float, Array]]) -> dict[str, Any]:
    """What `take` returns, from pairs of inferences: the nanoseconds of one, and the stamps of the next."""
    usual = [pairs[index] for index in _middle([plain + float(stamps[-1] - stamps[0]) for plain, stamps in pairs])]
    mean = np.mean([stamps - stamps[0] for _, stamps in usual], axis=0) * 1e-9
    outermost = [call for call in calls if call.outermost]
    groups: dict[str, list[float]] = {}
    for call in outermost:
        groups.setdefault(_group(call.name), []).append(float(mean[call.after] - mean[call.before]))
    memory, checks = groups.pop("memory", []), groups.pop("runtime", [])
    between = float(mean[-1]) - sum(map(sum, groups.values())) - sum(memory) - sum(checks)
    kernels = [{"symbol": name, "calls": len(took), "seconds": sum(took)} for name, took in groups.items()]
    return {
        "end_to_end_s": float(np.mean([plain for plain, _ in usual])) * 1e-9,
        "inferences": len(pairs),
        "kernels": sorted(kernels, key=lambda kernel: -float(str(kernel["seconds"]))),
        "memory": {"calls": len(memory), "seconds": sum(memory)},
        "runtime": {"calls": len(outermost), "seconds": between + sum(checks)},
    }


def _group(name: str) -> str:
    if not name.startswith(_BUILTIN):
        return name
    return "memory" if name.removeprefix(_BUILTIN).startswith(_MEMORY) else "runtime"


def _middle(values: Sequence[float]) -> list[int]:
    """The indices of the middle half of some values, what was disturbed left out. Medians of parts would not add up."""
    order = sorted(range(len(values)), key=values.__getitem__)
    quarter = len(order) // 4
    return order[quarter : len(order) - quarter]
