"""A raised C function behind its own name: a shared library and an object that can take the original's place.

The function tests what was assumed of its arguments (the sizes, arrays that do not overlap) and calls the tuned model;
where a test fails, or the model, it calls the original, which is part of both files. Arrays that are not aligned, or
that are read and written (but for those that the model may overwrite), go through aligned copies. Where there are
models for several sizes, the sizes choose one; they are then opened when the library is, beside which they lie.
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

IN_PLACE = "in_place"
"""Of what the importer says of a function: positions of arrays that are read and written, and that the model may
overwrite."""

_IN_PLACE_LINE = "/* overwritten by the model: arguments"

_OWN, _ORIGINAL_HERE = "tuned", "original"
"""What the two functions are called in the C text."""

_ORIGINAL, _GUARD = "tuner-original.o", "tuner-guard.o"
"""Parts of the object; no C function has such a name."""

_TYPES = {"i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t", "float": "float", "double": "double",
          "ptr": "void*", "void": "void"}  # fmt: skip
_CODES = {"int": 0, "float": 2}
_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "float32": 32, "float64": 64}

_HEAD = (
    """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

"""
    + STRUCTS
    + """\
enum { NONE = 0, TENSOR_PTR = 7, ALIGNMENT = 64 };
#define ALIGNED __attribute__((aligned(ALIGNMENT)))
typedef int (*Run)(void* self, const Any* arguments, int32_t count, Any* result);
extern int __tvm_ffi_tuner_run(void* self, const Any* arguments, int32_t count, Any* result);

/* What TVM's loader of modules would have put into the kernels' library. */
#define RUNTIME(name) extern void name(void); extern void (*__##name)(void) __attribute__((weak));
#define EACH(f) f(TVMBackendParallelLaunch) f(TVMBackendParallelBarrier) f(TVMBackendAllocWorkspace) \
  f(TVMBackendFreeWorkspace) f(TVMFFIEnvModLookupFromImports) f(TVMFFIFunctionCall) \
  f(TVMFFIErrorSetRaisedFromCStr) f(TVMFFIErrorSetRaisedFromCStrParts)
EACH(RUNTIME)

/* A fork leaves the threads of the model behind: the child goes on with the original. */
static int started, forked;
static void in_child(void) { forked = started; }

static void set_threads(void) {
  setenv("TVM_NUM_THREADS", THREADS, 0);
  setenv("TVM_BIND_THREADS", "0", 0);
  const char* threads = getenv("TVM_NUM_THREADS");
  if (threads && atoi(threads) != 1) pthread_atfork(NULL, NULL, in_child);
}

static int overlap(const void* a, uint64_t m, const void* b, uint64_t n) {
  return (const char*)a < (const char*)b + n && (const char*)b < (const char*)a + m;
}

static int is_aligned(const void* p) { return (uintptr_t)p % ALIGNMENT == 0; }
/* The function has a name of its own here: that of the original may be taken in C, and the same symbol is asked for. */
#define NAMED(symbol) __asm__(symbol)
static void* room(uint64_t bytes) { return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT); }
"""
)


_LINKED = """\
#define SET(name) if (&__##name) __##name = name;
__attribute__((constructor)) static void set_up(void) {
  set_threads();
  EACH(SET)
}
"""
"""The model is linked to the function."""

_OPENED = """\
static Run runs[sizeof models / sizeof *models];

#define SET(name) if ((slot = (void (**)(void))dlsym(model, "__" #name))) *slot = name;
__attribute__((constructor)) static void set_up(void) {
  set_threads();
  char here[3072], file[4096];
  Dl_info self;
  if (!dladdr((void*)runs, &self) || !self.dli_fname) return;
  int found = snprintf(here, sizeof here, "%s", self.dli_fname);
  if (!strchr(self.dli_fname, '/')) found = (int)readlink("/proc/self/exe", here, sizeof here - 1);
  if (found < 1 || found >= (int)sizeof here) return;
  here[found] = 0;
  *strrchr(here, '/') = 0;
  for (unsigned i = 0; i < sizeof libraries / sizeof *libraries; ++i)
    dlopen(libraries[i], RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
  for (unsigned i = 0; i < sizeof models / sizeof *models; ++i) {
    snprintf(file, sizeof file, "%s/%s", here, models[i]);
    void* model = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    void (**slot)(void);
    if (!model) continue;
    EACH(SET)
    runs[i] = (Run)dlsym(model, "__tvm_ffi_tuner_run");
  }
}
"""
"""The models lie beside the library. One that cannot be opened is not used."""


def overwritten_in(text: Path) -> list[int]:
    """Which arguments the model may overwrite, as a text that `source` made has it."""
    first = text.read_text("utf-8").splitlines()[0]
    return [int(word) for word in first.removeprefix(_IN_PLACE_LINE).split() if word.isdecimal()]


def source(c: Mapping[str, Any], threads: int) -> str:
    """The C text of the function in the original's place. `c` is what the importer says of it."""
    positions = "".join(f" {position}" for position in c.get(IN_PLACE, ()))
    head = [f"{_IN_PLACE_LINE}{positions} */", f'#define THREADS "{threads}"', _HEAD, _LINKED]
    return "\n".join([*head, *_function(c, _OWN, "__tvm_ffi_tuner_run")])


def source_of_several(parts: Mapping[str, Mapping[str, Any]], threads: int, runtime: Sequence[Path]) -> str:
    """The C text of a function that takes one of several models by its sizes. `parts`: what the importer says of the
    function at each of its sizes, by the files of the models; `runtime` are TVM's libraries."""
    c = next(iter(parts.values()))
    listed = ", ".join(f'"{name}"' for name in parts)
    libraries = ", ".join(f'"{path.name}"' for path in runtime)
    text = [f'#define THREADS "{threads}"', _HEAD, f"static const char* const models[] = {{{listed}}};",
            f"static const char* const libraries[] = {{{libraries}}};", _OPENED]  # fmt: skip
    for number, part in enumerate(parts.values()):
        text += _function(part, f"of_size{number}", f"runs[{number}]", "static ")
    declared, names, result = _signature(c)
    original = f"{_ORIGINAL_HERE}({', '.join(names)})"
    returned = "return " if result != "void" else ""
    text += _head(result, _OWN, declared, c["function"])
    for number, part in enumerate(parts.values()):
        test = " && ".join([f"runs[{number}]", *(f"!({doubt})" for doubt in _other_sizes(part, names))])
        call = f"of_size{number}({', '.join(names)})"
        text.append(f"  if ({test}) {{ {returned}{call}; {'' if returned else 'return; '}}}")
    return "\n".join([*text, f"  {returned}{original};", "}", ""])


def _signature(c: Mapping[str, Any]) -> tuple[str, list[str], str]:
    """The parameters, their names, and the type of the result."""
    names = [f"a{number}" for number in range(len(c["arguments"]))]
    kinds = [f"const {_TYPES[a['type']]}*" if a.get("reference") else _TYPES[a["type"]] for a in c["arguments"]]
    declared = ", ".join(f"{kind} {name}" for kind, name in zip(kinds, names, strict=True)) or "void"
    return declared, names, _TYPES[c["result"]]


def _function(c: Mapping[str, Any], name: str, run: str, linkage: str = "") -> list[str]:
    """The lines of a function that calls a model, or the original."""
    declared, names, result = _signature(c)
    original = _ORIGINAL_HERE
    tensors = [*c["inputs"], *c["outputs"]]
    returned = "return " if result != "void" else ""
    fallback = f"{returned}{original}({', '.join(names)});" + ("" if returned else " return;")
    inputs = len(c["inputs"])
    body = [
        f"  if ({' || '.join(['forked', *_doubts(c, names)])}) {{ {fallback} }}",
        f"  void* copies[{len(tensors)}] = {{0}}; void* data[{len(tensors)}]; int ready = 1;",
        f"  {result if result != 'void' else 'int'} value[ALIGNMENT] ALIGNED = {{0}}; (void)value;",
    ]
    for number, tensor in enumerate(tensors):
        body += _given(number, tensor, names, number >= inputs, c)
    body += [
        "  int code = -1;",
        "  if (ready) {",
        "    started = 1;",
        *(f"    static int64_t shape{n}[] = {{{', '.join(map(str, t['shape']))}}};" for n, t in enumerate(tensors)),
        "    Tensor tensors[] = {",
        *(f"      {_descriptor(n, t)}," for n, t in enumerate(tensors)),
        "    };",
        f"    Any arguments[{len(tensors)}];",
        f"    for (int i = 0; i < {len(tensors)}; ++i) arguments[i] = (Any){{TENSOR_PTR, 0, {{.p = tensors + i}}}};",
        "    Any ignored = {NONE, 0, {0}};",
        f"    code = {run}(NULL, arguments, {len(tensors)}, &ignored);",
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
    kept = f"{c['function']}{ORIGINAL_SUFFIX}"
    head = [f"static {result} {name}({declared}) {{"] if linkage else _head(result, name, declared, c["function"])
    return [f'extern {result} {original}({declared}) NAMED("{kept}");', "", *head, *body, "}", ""]


def _head(result: str, name: str, declared: str, symbol: str) -> list[str]:
    """How a function begins that has another name for the linker."""
    return [f'extern {result} {name}({declared}) NAMED("{symbol}");', f"{result} {name}({declared}) {{"]


def _other_sizes(c: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [
        f"{'*' if argument.get('reference') else ''}{name} != {c['sizes'][argument['name']]}"
        for argument, name in zip(c["arguments"], names, strict=True)
        if argument["name"] in c["sizes"]
    ]


def _doubts(c: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Conditions under which the original is called."""
    doubts = _other_sizes(c, names)
    sizes: dict[int, int] = {}
    for tensor in [*c["inputs"], *c["outputs"]]:
        if tensor["position"] >= 0 and not tensor["scalar"]:
            sizes[tensor["position"]] = max(sizes.get(tensor["position"], 0), _reached(tensor))
    written = {t["position"] for t in c["outputs"]}
    pairs = [(a, b) for a in sizes for b in sizes if a < b and {a, b} & written]
    numbers = {p: _BITS[f"int{a['type'][1:]}"] // 8 for p, a in enumerate(c["arguments"]) if a.get("reference")}
    doubts += [
        f"overlap(a{n}, {size}, a{w}, {sizes[w]})" for n, size in numbers.items() for w in written & sizes.keys()
    ]
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
        also_read = any(t["position"] == position for t in c["inputs"]) and position not in c.get(IN_PLACE, ())
        if tensor["direct"]:
            return [f"  data[{number}] = a{position};"]
        wanted = "1" if also_read else "0" if tensor["anywhere"] else f"!is_aligned(a{position})"
        return [
            f"  data[{number}] = a{position};",
            f"  if ({wanted}) {{ data[{number}] = copies[{number}] = room({size}); "
            f"ready &= copies[{number}] != NULL; }}",
        ]
    if tensor["direct"]:
        return [f"  data[{number}] = a{position};"]
    # A kernel may read the whole shape, and the argument may end at the last element that the function reads. What is
    # in the same line as that element can be read, and is not used.
    # A map reads what the function reads; of an array that it overwrites it keeps, and does not read, the rest.
    written = any(t["position"] == position for t in c["outputs"])
    own = tensor["anywhere"] and (not written or position in c.get(IN_PLACE, ()))
    fits = own or _lines(_reached(tensor)) == _lines(size)
    doubt = "1" if not fits else "0" if tensor["anywhere"] else f"!is_aligned(a{position})"
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


def _lines(size: int) -> int:
    """Lines of 64 bytes, the last perhaps not whole."""
    return -(-size // 64)


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
    return _linked(folder, c["function"], source(c, threads), ["model.so"], build_original, runtime)


def write_several(
    folder: Path, parts: Mapping[str, Mapping[str, Any]], threads: int, build_original: Callable[[Path], None],
    runtime: Sequence[Path],
) -> tuple[Path, Path]:  # fmt: skip
    """The same for several sizes: `parts` as in `source_of_several`, with files in folders of this one. The object
    opens them in the folder of the program that it is linked to. Raises OutputError."""
    function = next(iter(parts.values()))["function"]
    return _linked(folder, function, source_of_several(parts, threads, runtime), [], build_original, runtime)


def _linked(
    folder: Path, name: str, text: str, models: Sequence[str], build_original: Callable[[Path], None],
    runtime: Sequence[Path],
) -> tuple[Path, Path]:  # fmt: skip
    """A function's text and the original as a library and an object."""
    (folder / f"{name}.c").write_text(text, encoding="utf-8")
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
        [
            compiler,
            "-shared",
            "-pthread",
            f"{name}.o",
            *models,
            "-o",
            f"lib{name}.so",
            *libraries,
            *paths,
            "-lm",
            "-ldl",
        ],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise OutputError(f"{folder / name}: cannot be linked: {done.stderr.strip()[-300:]}")
    for rest in (_ORIGINAL, _GUARD):
        (folder / rest).unlink()
    return folder / f"lib{name}.so", folder / f"{name}.o"
