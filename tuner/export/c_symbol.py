"""A raised C function behind its own name: a shared library and an object that can take the original's place.

The function tests what was assumed of its arguments (the sizes, arrays that do not overlap) and calls the tuned model;
where a test fails, or the model, it calls the original, which is part of both files. Arrays that are not aligned, or
that are read and written, go through aligned copies.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import OutputError
from tuner.export.c_abi import STRUCTS

ORIGINAL_SUFFIX = "__original"

_ORIGINAL, _GUARD = "tuner-original.o", "tuner-guard.o"
"""Parts of the object; no C function has such a name."""

_TYPES = {"i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t", "float": "float", "double": "double",
          "ptr": "void*", "void": "void"}  # fmt: skip
_CODES = {"int": 0, "float": 2}
_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "float32": 32, "float64": 64}

_HEAD = (
    """\
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

"""
    + STRUCTS
    + """\
enum { NONE = 0, TENSOR_PTR = 7, ALIGNMENT = 64 };
#define ALIGNED __attribute__((aligned(ALIGNMENT)))
extern int __tvm_ffi_tuner_run(void* self, const Any* arguments, int32_t count, Any* result);

/* What TVM's loader of modules would have put into the kernels' library. */
#define RUNTIME(name) extern void name(void); extern void (*__##name)(void) __attribute__((weak));
#define SET(name) if (&__##name) __##name = name;
#define EACH(f) f(TVMBackendParallelLaunch) f(TVMBackendParallelBarrier) f(TVMBackendAllocWorkspace) \
  f(TVMBackendFreeWorkspace) f(TVMFFIEnvModLookupFromImports) f(TVMFFIFunctionCall) \
  f(TVMFFIErrorSetRaisedFromCStr) f(TVMFFIErrorSetRaisedFromCStrParts)
EACH(RUNTIME)

__attribute__((constructor)) static void set_up(void) {
  setenv("TVM_NUM_THREADS", THREADS, 0);
  setenv("TVM_BIND_THREADS", "0", 0);
  EACH(SET)
}

static int overlap(const void* a, uint64_t m, const void* b, uint64_t n) {
  return (const char*)a < (const char*)b + n && (const char*)b < (const char*)a + m;
}

static int is_aligned(const void* p) { return (uintptr_t)p % ALIGNMENT == 0; }
static void* room(uint64_t bytes) { return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT); }
"""
)


def source(c: Mapping[str, Any], threads: int) -> str:
    """The C text of the function in the original's place. `c` is what the importer says of it."""
    arguments = c["arguments"]
    names = [f"a{number}" for number in range(len(arguments))]
    result = _TYPES[c["result"]]
    declared = ", ".join(f"{_TYPES[a['type']]} {n}" for a, n in zip(arguments, names, strict=True)) or "void"
    original = f"{c['function']}{ORIGINAL_SUFFIX}"
    tensors = [*c["inputs"], *c["outputs"]]
    returned = "return " if result != "void" else ""
    fallback = f"{returned}{original}({', '.join(names)});" + ("" if returned else " return;")
    inputs = len(c["inputs"])
    body = [
        f"  if ({' || '.join(_doubts(c, names)) or '0'}) {{ {fallback} }}",
        f"  void* copies[{len(tensors)}] = {{0}}; void* data[{len(tensors)}]; int ready = 1;",
        f"  {result if result != 'void' else 'int'} value[ALIGNMENT] ALIGNED = {{0}}; (void)value;",
    ]
    for number, tensor in enumerate(tensors):
        body += _given(number, tensor, names, number >= inputs, c)
    body += [
        "  int code = -1;",
        "  if (ready) {",
        *(f"    static int64_t shape{n}[] = {{{', '.join(map(str, t['shape']))}}};" for n, t in enumerate(tensors)),
        "    Tensor tensors[] = {",
        *(f"      {_descriptor(n, t)}," for n, t in enumerate(tensors)),
        "    };",
        f"    Any arguments[{len(tensors)}];",
        f"    for (int i = 0; i < {len(tensors)}; ++i) arguments[i] = (Any){{TENSOR_PTR, 0, {{.p = tensors + i}}}};",
        "    Any ignored = {NONE, 0, {0}};",
        f"    code = __tvm_ffi_tuner_run(NULL, arguments, {len(tensors)}, &ignored);",
        "  }",
    ]
    for number, tensor in enumerate(tensors[inputs:], inputs):
        if tensor["position"] >= 0:
            copy = f"memcpy(a{tensor['position']}, copies[{number}], {_reached(tensor)})"
            body.append(f"  if (code == 0 && copies[{number}]) {copy};")
    body += [
        f"  for (int i = 0; i < {len(tensors)}; ++i) free(copies[i]);",
        f"  if (code != 0) {{ {fallback} }}",
        *(["  return value[0];"] if result != "void" else []),
    ]
    return "\n".join([
        f'#define THREADS "{threads}"', _HEAD, f"extern {result} {original}({declared});", "",
        f"{result} {c['function']}({declared}) {{", *body, "}", "",
    ])  # fmt: skip


def _doubts(c: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Conditions under which the original is called."""
    doubts = [
        f"{name} != {c['sizes'][argument['name']]}"
        for argument, name in zip(c["arguments"], names, strict=True)
        if argument["name"] in c["sizes"]
    ]
    sizes: dict[int, int] = {}
    for tensor in [*c["inputs"], *c["outputs"]]:
        if tensor["position"] >= 0 and not tensor["scalar"]:
            sizes[tensor["position"]] = max(sizes.get(tensor["position"], 0), _reached(tensor))
    written = {t["position"] for t in c["outputs"]}
    pairs = [(a, b) for a in sizes for b in sizes if a < b and {a, b} & written]
    return doubts + [f"overlap(a{a}, {sizes[a]}, a{b}, {sizes[b]})" for a, b in pairs]


def _given(
    number: int, tensor: Mapping[str, Any], names: Sequence[str], output: bool, c: Mapping[str, Any]
) -> list[str]:
    """Where a tensor's data are: the argument's own, or a copy that is aligned and nobody else's."""
    position = tensor["position"]
    if position < 0:
        return [f"  data[{number}] = value;"]
    size = _bytes(tensor)
    if tensor["scalar"]:
        return [
            f"  {_TYPES[c['arguments'][position]['type']]} scalar{number}[ALIGNMENT] ALIGNED;",
            f"  scalar{number}[0] = {names[position]}; data[{number}] = scalar{number};",
        ]
    if output:
        also_read = any(t["position"] == position for t in c["inputs"])
        wanted = "1" if also_read else f"!is_aligned(a{position})"
        return [
            f"  data[{number}] = a{position};",
            f"  if ({wanted}) {{ data[{number}] = copies[{number}] = room({size}); "
            f"ready &= copies[{number}] != NULL; }}",
        ]
    # a kernel may read the whole shape, and the argument may end at the last element that the function reads
    doubt = f"!is_aligned(a{position})" if _reached(tensor) == size else "1"
    return [
        f"  data[{number}] = a{position};",
        f"  if ({doubt}) {{ data[{number}] = copies[{number}] = room({size}); ready &= copies[{number}] != NULL; "
        f"if (copies[{number}]) memcpy(copies[{number}], a{position}, {_reached(tensor)}); }}",
    ]


def _descriptor(number: int, tensor: Mapping[str, Any]) -> str:
    code = next(code for name, code in _CODES.items() if tensor["dtype"].startswith(name))
    bits = _BITS[tensor["dtype"]]
    rank = len(tensor["shape"])
    return f"{{data[{number}], {{1, 0}}, {rank}, {{{code}, {bits}, 1}}, shape{number}, NULL, 0}}"


def _bytes(tensor: Mapping[str, Any]) -> int:
    size = _BITS[tensor["dtype"]] // 8
    for extent in tensor["shape"]:
        size *= extent
    return size


def _reached(tensor: Mapping[str, Any]) -> int:
    """Bytes to the last element that the function accesses: what lies behind may be somebody else's."""
    return min(int(tensor["reached"]) * _BITS[tensor["dtype"]] // 8, _bytes(tensor))


def write(
    folder: Path, c: Mapping[str, Any], threads: int, build_original: Callable[[Path], None], runtime: Sequence[Path]
) -> tuple[Path, Path]:
    """Write `lib<function>.so` and `<function>.o` beside `model.so` in an export's folder.

    `build_original` compiles the user's file to an object; `runtime` are TVM's libraries. The object needs `model.so`
    and these when it is linked. Raises OutputError.
    """
    name = c["function"]
    (folder / f"{name}.c").write_text(source(c, threads), encoding="ascii")
    build_original(folder / _ORIGINAL)
    renamed = f"{name}{ORIGINAL_SUFFIX}"
    objcopy = shutil.which("objcopy")
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if objcopy is None or compiler is None:
        raise OutputError(
            "objcopy or a C compiler is missing: the function cannot be linked", "install binutils and gcc"
        )
    libraries = [f"-L{path.parent}" for path in runtime] + [f"-l:{path.name}" for path in runtime]
    paths = ["-Wl,-rpath,$ORIGIN", *(f"-Wl,-rpath,{path.parent}" for path in runtime)]
    for command in (
        [objcopy, f"--redefine-sym={name}={renamed}", f"--keep-global-symbol={renamed}", _ORIGINAL],
        [compiler, "-O2", "-fPIC", "-c", f"{name}.c", "-o", _GUARD],
        [compiler, "-r", "-nostdlib", _GUARD, _ORIGINAL, "-o", f"{name}.o"],
        [compiler, "-shared", f"{name}.o", "model.so", "-o", f"lib{name}.so", *libraries, *paths, "-lm"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise OutputError(f"{folder / name}: cannot be linked: {done.stderr.strip()[-300:]}")
    for rest in (_ORIGINAL, _GUARD):
        (folder / rest).unlink()
    return folder / f"lib{name}.so", folder / f"{name}.o"
