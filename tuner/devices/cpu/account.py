"""Where the time of a compiled model goes: time stamps before and after every call that it makes.

A static model stores them itself when it is told to. TVM's virtual machine calls an instrument before and after each of
its calls. One in Python costs microseconds each time, which is as much as a small kernel; this one is a few lines of C
that store the clock. Either costs some 50 ns a stamp, so that what it changes is far below what the account is to be
right to. That is checked, not believed: inferences with and without stamps alternate, and both totals are returned.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tuner.devices.cpu.codegen import c_compiler
from tuner.errors import InfrastructureError
from tuner.measure.compiled_model import static_outputs
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

    Seconds of one inference: `end_to_end_s` without stamps; with them `kernels` (each `symbol`, `calls` and
    `seconds`, all calls together, longest first), `memory` and `runtime` (each `calls` and `seconds`; time between
    calls is the runtime's). `inferences` is how many of each were made; times are means over the middle half of pairs.
    Raises InfrastructureError, saying what failed.
    """
    with tempfile.TemporaryDirectory(prefix="tuner-account-") as folder:
        stored = Path(folder, "inputs.npz")
        np.savez(stored, *inputs)
        settings = {"library": str(library), "threads": threads, "folder": folder}
        service = "tuner.devices.cpu.account:AccountWorker"
        try:
            with Child(service, settings, env=thread_env(threads)) as child:
                taken: dict[str, Any] = child.call("take", _TIMEOUT_S, inputs_npz_path=str(stored), seconds=seconds)
        except (ChildDied, ChildTimeout, ChildError) as error:
            raise InfrastructureError(f"{library}: no account of its time: {error}") from error
    return taken


@dataclass(frozen=True)
class Call:
    """A call that the model makes: its function, where its two stamps are, and whether no other call is around it."""

    name: str
    before: int
    after: int
    outermost: bool


class _Stamped(Protocol):
    """A loaded model. `calls` are in the order in which they begin; stamp 0 is the start of an inference."""

    calls: list[Call]

    def infer(self) -> object:
        """One inference."""

    def stamp(self, on: bool) -> None:
        """Whether the inferences from now on store stamps."""

    def stamps(self) -> Array:
        """Those of the last inference: nanoseconds of CLOCK_MONOTONIC."""


class _StaticModel:
    """See `static_model`: a call's second stamp is the next one's first."""

    def __init__(self, library: str, module: Any, inputs: Sequence[Any]) -> None:
        import tvm

        outputs = [tvm.runtime.empty(shape, dtype) for shape, dtype in static_outputs(module)]
        self.infer = functools.partial(module["tuner_run"], *inputs, *outputs)
        loaded = ctypes.CDLL(library)  # the same one: a library is loaded once a process
        count = ctypes.c_int.in_dll(loaded, "tuner_calls").value
        names = (ctypes.c_char_p * count).in_dll(loaded, "tuner_kernels")
        self.calls = [Call((names[i] or b"").decode(), i + 1, i + 2, True) for i in range(count)]
        self._on = ctypes.c_int.in_dll(loaded, "tuner_stamping")
        self._stamps: Array = np.ctypeslib.as_array((ctypes.c_int64 * (count + 1)).in_dll(loaded, "tuner_stamps"))

    def stamp(self, on: bool) -> None:
        self._on.value = on

    def stamps(self) -> Array:
        return self._stamps


class _OnVirtualMachine:
    """A model on TVM's virtual machine, whose own functions are calls, too."""

    def __init__(self, module: Any, inputs: Sequence[Any], folder: Path) -> None:
        import tvm
        from tvm import relax

        self._machine = relax.VirtualMachine(module, tvm.cpu())
        self.infer = functools.partial(self._machine["main"], *inputs)
        self.calls = self._calls()
        path = str(compiled_stamp(folder))
        self._instrument = tvm.runtime.load_module(path)["stamp"]
        loaded = ctypes.CDLL(path)
        self._count = ctypes.c_int64.in_dll(loaded, "stamp_count")
        self._stamps: Array = np.ctypeslib.as_array((ctypes.c_int64 * _MOST_STAMPS).in_dll(loaded, "stamps"))

    def stamp(self, on: bool) -> None:
        self._count.value = 0
        self._machine.set_instrument(self._instrument if on else None)

    def stamps(self) -> Array:
        count = self._count.value
        if count > _MOST_STAMPS:
            raise ValueError(f"an inference makes {count // 2} calls; there is room for {_MOST_STAMPS // 2}")
        return self._stamps[:count]

    def _calls(self) -> list[Call]:
        names: list[tuple[str, bool]] = []
        self._machine.set_instrument(lambda function, name, before, *rest: names.append((str(name), bool(before))))
        self.infer()
        calls: list[Call] = []
        begun: list[tuple[str, int]] = []
        for index, (name, before) in enumerate(names, start=1):
            if before:
                begun.append((name, index))
            else:
                ended, first = begun.pop()
                calls.append(Call(ended, first, index, not begun))
        return sorted(calls, key=lambda call: call.before)


def compiled_stamp(folder: Path) -> Path:
    """The instrument as a shared library. Raises InfrastructureError without a C compiler."""
    compiler = c_compiler()
    source, made = folder / "stamp.c", folder / "stamp.so"
    source.write_text(_STAMP % (_MOST_STAMPS, _MOST_STAMPS))
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60, text=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise InfrastructureError(f"{compiler} failed: {error}") from error
    return made


class AccountWorker:
    """Runs a compiled model in a child, with and without stamps. `folder` is scratch space."""

    def __init__(self, library: str, threads: int, folder: str) -> None:
        self._library = library
        self._threads = threads
        self._folder = Path(folder)

    def op_take(self, inputs_npz_path: str, seconds: float) -> dict[str, Any]:
        """See `take`."""
        model = self._loaded(inputs_npz_path)
        pin_workers(model.infer, self._threads)
        pairs: list[tuple[float, Array]] = []
        deadline = time.perf_counter() + seconds
        while len(pairs) < _LEAST_INFERENCES or time.perf_counter() < deadline:
            model.stamp(False)
            start, end = _timed(model.infer)
            plain_ns = float(end - start)
            model.stamp(True)
            start, end = _timed(model.infer)
            pairs.append((plain_ns, np.concatenate(([start], model.stamps(), [end]))))
        return account(model.calls, pairs)

    def _loaded(self, inputs_npz_path: str) -> _Stamped:
        import tvm

        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [tvm.runtime.tensor(stored[name]) for name in stored.files]
        module = tvm.runtime.load_module(self._library)
        if module.implements_function("tuner_run"):
            return _StaticModel(self._library, module, inputs)
        return _OnVirtualMachine(module, inputs, self._folder)


def _timed(infer: Callable[[], object]) -> tuple[int, int]:
    """Nanoseconds before and after, of the clock that the stamps are of."""
    start = time.perf_counter_ns()
    infer()
    return start, time.perf_counter_ns()


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
