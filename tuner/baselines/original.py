"""A raised C function as its author wrote it: compiled by clang, called as C calls it. The baseline of the raised one,
and what its outputs are checked by."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuner.importers.c_source import compile_original, compiled, compiler
from tuner.measure.model_service import ModelWorker
from tuner.protocols import Array

PRECISE, FAST, POLLY = "original_O3", "original_O3_fast", "original_polly"
"""Names of the ways in which it is compiled. Only the first one is a reference."""

FLAGS: Mapping[str, Sequence[str]] = {
    PRECISE: ("-O3", "-march=native"), FAST: ("-O3", "-march=native", "-ffast-math"),
    POLLY: ("-O3", "-march=native", "-mllvm", "-polly"),
}  # fmt: skip

_TRIED_S = 30.0
_MOST_MISSING = 100

_malloc, _free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
_malloc.restype, _malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]

SCALARS = {"i8": ctypes.c_int8, "i16": ctypes.c_int16, "i32": ctypes.c_int32, "i64": ctypes.c_int64,
            "float": ctypes.c_float, "double": ctypes.c_double}  # fmt: skip


def types_of(c: Mapping[str, Any]) -> list[Any]:
    """The types of a function's arguments for ctypes."""
    return [
        ctypes.POINTER(SCALARS[a["type"]]) if a.get("reference") else SCALARS.get(a["type"], ctypes.c_void_p)
        for a in c["arguments"]
    ]


def given_number(argument: Mapping[str, Any], number: int) -> Any:
    """A number as an argument is to be given it."""
    kind: Any = SCALARS[argument["type"]]
    return ctypes.byref(kind(number)) if argument.get("reference") else number


def flags_of(function: str, reordered: bool) -> dict[str, list[str]]:
    """The flags by name: fast math only where sums may be reordered, Polly where the compiler has it (for the function
    alone: it takes minutes for files of many)."""
    found = {PRECISE: list(FLAGS[PRECISE])}
    if reordered:
        found[FAST] = list(FLAGS[FAST])
    if _has_polly(tuple(compiler())):
        found[POLLY] = [*FLAGS[POLLY], "-mllvm", f"-polly-only-func={function}"]
        found[POLLY] += ["-ffast-math"] if reordered else []
    return found


@functools.cache
def _has_polly(command: tuple[str, ...]) -> bool:
    """Whether a clang knows LLVM's polyhedral optimizer."""
    tried = [*command, *FLAGS[POLLY], "-x", "c", "-S", "-", "-o", os.devnull]
    try:
        return subprocess.run(tried, input=b"", capture_output=True, timeout=_TRIED_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def build(c: Mapping[str, Any], flags: Sequence[str], output: Path) -> None:
    """Compile the file of a raised function to a shared library. Raises ModelError."""
    compile_original(c, output, [*flags, "-shared", "-fPIC", "-w", "-fno-sanitize=undefined", "-lm"])


def opened(library: Path, name: str) -> Any:
    """A function of a library. What else the file calls (the functions of Rust that end a program) may be missing: a
    call of it ends the process."""
    for _ in range(_MOST_MISSING):
        try:
            return getattr(ctypes.CDLL(str(library)), name)
        except OSError as error:
            missing = re.search(r"undefined symbol: ([\w.$]+)", str(error))
            if missing is None:
                raise
            _stand_in(missing[1])
    raise OSError(f"{library}: more than {_MOST_MISSING} undefined symbols")


def _stand_in(symbol: str) -> None:
    """Give the process a function that aborts."""
    with tempfile.TemporaryDirectory(prefix="tuner-original-") as scratch:
        source, library = Path(scratch, "missing.c"), Path(scratch, "missing.so")
        text = f'void missing(void) __asm__("{symbol}");\nvoid missing(void) {{ __builtin_trap(); }}\n'
        source.write_text(text, encoding="ascii")
        compiled(source, library, ["-shared", "-fPIC", "-w"])
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Original:
    """The C function of a library with arrays of its own. Implements `protocols.Prepared`.

    `inputs` are the model's, in order. Arrays that the function writes begin with what the inputs say of them, or with
    zeros. All arrays are memory of `malloc`, as those of C programs are: numpy's own has larger pages.
    """

    def __init__(self, library: Path, c: Mapping[str, Any], inputs: Sequence[Array]) -> None:
        self._c = c
        function = opened(library, c["function"])
        function.argtypes = types_of(c)
        function.restype = SCALARS.get(c["result"])
        given = {t["position"]: np.asarray(a) for t, a in zip(c["inputs"], inputs, strict=True)}
        written = {t["position"]: t for t in c["outputs"] if t["position"] >= 0}
        self._arrays: dict[int, Array] = {}
        values: list[Any] = []
        for position, argument in enumerate(c["arguments"]):
            if argument["name"] in c["sizes"]:
                values.append(given_number(argument, c["sizes"][argument["name"]]))
            elif argument["type"] != "ptr":
                values.append(given[position].reshape(-1)[0].item() if position in given else 0)
            elif position in given or position in written:
                tensor = written.get(position)
                array = given[position] if position in given else np.zeros(tensor["shape"], tensor["dtype"])  # type: ignore[index]
                self._arrays[position] = self._by_malloc(array)
                values.append(self._arrays[position].ctypes.data)
            else:
                values.append(None)
        self._function, self._values = function, values
        self._outputs: list[Array] = []

    def _by_malloc(self, array: Array) -> Array:
        """A copy, which lives as long as this."""
        address = _malloc(max(array.nbytes, 1))
        if not address:
            raise MemoryError(f"no {array.nbytes} bytes")
        weakref.finalize(self, _free, ctypes.c_void_p(address))
        memory = (ctypes.c_ubyte * array.nbytes).from_address(address)
        copy: Array = np.ctypeslib.as_array(memory).view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def launch(self, count: int) -> None:
        """Outputs are those of the first call: arrays that are read and written go on from there."""
        for _ in range(count):
            result = self._function(*self._values)
            if not self._outputs:
                self._outputs = [
                    np.array([result], t["dtype"]) if t["position"] < 0 else self._arrays[t["position"]].copy()
                    for t in self._c["outputs"]
                ]

    def outputs(self) -> list[Array]:
        return self._outputs


class OriginalWorker(ModelWorker):
    """`c` says how the function is called; `flags` how it is compiled, where it is not in a `library` already."""

    def __init__(self, c: Mapping[str, Any], flags: Sequence[str], library: str = "") -> None:
        super().__init__()
        self._c, self._flags, self._library = c, tuple(flags), library

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """Compile, load and call once; returns {"settings", "load_s"} as the other workers do."""
        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        with tempfile.TemporaryDirectory(prefix="tuner-original-") as scratch:
            library = Path(self._library or Path(scratch, "original.so"))
            if not self._library:
                build(self._c, self._flags, library)
            began = time.perf_counter()
            prepared = Original(library, self._c, inputs)
            prepared.launch(1)
        self._prepared = prepared
        name = Path(compiler()[0]).name if len(compiler()) == 1 else "zig cc"
        return {"settings": f"{name} {' '.join(self._flags)}, 1 thread", "load_s": time.perf_counter() - began}
