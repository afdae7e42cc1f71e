"""The model as one C function that calls its kernels: memory planned, nothing allocated or looked up in a call.

The generated file holds a descriptor (DLTensor) of every tensor with its address, and one array of the calls'
arguments; a call of the model sets the addresses of inputs and outputs and goes through the calls. It is compiled and
linked with the kernels' objects, and exports, as functions of TVM's FFI,

- `tuner_run(inputs..., outputs...)`: dense tensors in this order; returns nothing. One call at a time: a second one
  that begins meanwhile is refused;
- `tuner_output(i, j)`: extent j of output i; j = -1: its number of extents, j = -2: its DLPack type code times 256
  plus its bits; i = -1: the number of outputs.

For an account of its time it exports data, too: `tuner_calls`, how many calls an inference makes; `tuner_kernels`,
their symbols; where `tuner_stamping` is set, `tuner_stamps` has the nanoseconds of CLOCK_MONOTONIC before each call and
after the last.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.target import Target

from tuner.devices.cpu.codegen import c_compiler
from tuner.export.c_abi import STRUCTS
from tuner.graph import Lowered
from tuner.graph.joins import ALIGNMENT
from tuner.graph.plan import Plan, Tensor

_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""DLPack's type codes by numpy's kind."""

_HEAD = (
    """\
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

"""
    + STRUCTS
    + """\
typedef int (*Kernel)(void*, const Any*, int32_t, Any*);
enum { NONE = 0, INT = 1, TENSOR_PTR = 7, TENSOR = 70, TENSOR_OFFSET = 24 };
extern void TVMFFIErrorSetRaisedFromCStr(const char* kind, const char* message);
"""
)

_BODY = """\
static char arena[ARENA] __attribute__((aligned(4096)));
static int busy;
#define VISIBLE __attribute__((visibility("default")))
VISIBLE const int tuner_calls = CALLS;
VISIBLE int tuner_stamping = 0;
VISIBLE int64_t tuner_stamps[CALLS + 1];

static void stamp(int i) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  tuner_stamps[i] = now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int fail(const char* message) { TVMFFIErrorSetRaisedFromCStr("ValueError", message); return -1; }

__attribute__((constructor)) static void place(void) {
  for (int i = 0; i < TENSORS; ++i) {
    if (places[i].kind == ARENA_KIND) tensors[i].data = arena + places[i].at;
    if (places[i].kind == CONSTANT_KIND) tensors[i].data = (char*)model_constants + places[i].at;
  }
}

static Tensor* tensor_of(const Any* any) {
  if (any->type_index == TENSOR_PTR) return (Tensor*)any->p;
  return any->type_index == TENSOR ? (Tensor*)((char*)any->p + TENSOR_OFFSET) : NULL;
}

static int dense_as(const Tensor* given, const Tensor* wanted) {
  if (given == NULL || given->ndim != wanted->ndim || given->device.type != 1) return 0;
  if (memcmp(&given->dtype, &wanted->dtype, sizeof(Type)) != 0) return 0;
  int64_t stride = 1;
  for (int i = given->ndim - 1; i >= 0; --i) {
    if (given->shape[i] != wanted->shape[i]) return 0;
    if (given->strides != NULL && given->shape[i] != 1 && given->strides[i] != stride) return 0;
    stride *= given->shape[i];
  }
  return 1;
}

VISIBLE int __tvm_ffi_tuner_run(void* self, const Any* args, int32_t count, Any* result) {
  (void)self;
  result->type_index = NONE; result->zero = 0; result->i = 0;
  if (count != INPUTS + OUTPUTS) return fail("tuner_run takes the model's inputs and then its outputs");
  for (int i = 0; i < count; ++i)
    if (!dense_as(tensor_of(args + i), tensors + i))
      return fail("an argument of tuner_run has another shape or type than the model's, or is not dense");
  if (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) return fail("the model is being run already, by another thread");
  void* data[INPUTS + OUTPUTS];
  for (int i = 0; i < count; ++i) {
    const Tensor* given = tensor_of(args + i);
    data[i] = (char*)given->data + given->offset;
  }
  for (int i = 0; i < TENSORS; ++i)
    if (places[i].kind == ARGUMENT_KIND) tensors[i].data = data[places[i].at];
  int code = 0, stamping = tuner_stamping;
  const Any* next = arguments;
  for (int i = 0; i < CALLS && code == 0; ++i) {
    Any ignored = {NONE, 0, {0}};
    if (stamping) stamp(i);
    code = calls[i].kernel(NULL, next, calls[i].count, &ignored);
    next += calls[i].count;
  }
  if (stamping) stamp(CALLS);
  __atomic_clear(&busy, __ATOMIC_RELEASE);
  return code;
}

VISIBLE int __tvm_ffi_tuner_output(void* self, const Any* args, int32_t count, Any* result) {
  (void)self;
  if (count != 2 || args[0].type_index != INT || args[1].type_index != INT)
    return fail("tuner_output takes two integers");
  int64_t output = args[0].i, axis = args[1].i;
  result->type_index = INT; result->zero = 0; result->i = OUTPUTS;
  if (output < 0) return 0;
  if (output >= OUTPUTS) return fail("no such output");
  const Tensor* tensor = tensors + INPUTS + output;
  if (axis >= tensor->ndim) return fail("no such extent");
  int64_t type = tensor->dtype.code * 256 + tensor->dtype.bits;
  result->i = axis >= 0 ? tensor->shape[axis] : axis == -1 ? tensor->ndim : type;
  return 0;
}
"""


class StaticModel:
    """A planned model with its kernels: `objects` are (symbol, object file) by kernel; kernels without one are compiled
    by TVM as they are."""

    function = "tuner_run"

    def __init__(self, lowered: Lowered, plan: Plan, objects: Mapping[str, tuple[str, Path]], target: Target) -> None:
        self._plan = plan
        called = {call.kernel for call in plan.calls}
        self._symbols = {name: objects[name][0] if name in objects else name for name in called}
        self._objects = {objects[name][1] for name in called if name in objects}
        rest = {name: lowered.module[name].with_attr("global_symbol", name) for name in sorted(called - objects.keys())}
        self._rest: Any = None
        if rest:
            with target, tvm.transform.PassContext(opt_level=3):
                self._rest = tvm.compile(tvm.IRModule(rest), target=target)

    def export_library(self, path: str) -> None:
        """Compile and link a shared library. Raises RuntimeError where there is no C compiler, or it fails."""
        with tempfile.TemporaryDirectory(prefix="tuner-link-") as scratch:
            folder = Path(scratch)
            objects = [str(p.resolve()) for p in sorted(self._objects)]
            if self._rest is not None:
                self._rest.mod.write_to_file(str(folder / "rest.o"))
                objects.append("rest.o")
            with open(folder / "constants.bin", "wb") as file:
                for offset, array in self._plan.constants:
                    file.seek(offset)
                    file.write(np.ascontiguousarray(array).view(np.uint8).data)
                file.truncate(max(self._plan.constant_bytes, ALIGNMENT))
            (folder / "model.c").write_text(source(self._plan, self._symbols), encoding="ascii")
            command = [c_compiler(), "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-o", str(Path(path).resolve())]
            done = subprocess.run(
                [*command, "model.c", *objects], cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(done.stderr.strip()[-300:] or f"{command[0]} failed")


def source(plan: Plan, symbols: Mapping[str, str]) -> str:
    """The C text of a plan; `symbols` are the names under which the kernels' objects export them."""
    tensors = list(dict.fromkeys([*plan.inputs, *plan.outputs, *(t for c in plan.calls for t in c.arguments)]))
    number = {tensor: i for i, tensor in enumerate(tensors)}
    inputs = len(plan.inputs)
    names = sorted({symbols[call.kernel] for call in plan.calls})
    shapes = [_extents(t) for t in tensors]
    lines = [
        _HEAD,
        f"enum {{ INPUTS = {inputs}, OUTPUTS = {len(plan.outputs)}, TENSORS = {len(tensors)}, "
        f"CALLS = {len(plan.calls)}, ARENA = {max(plan.arena_bytes, ALIGNMENT)} }};",
        "enum { ARGUMENT_KIND, CONSTANT_KIND, ARENA_KIND };",
        '__asm__(".section .rodata\\n.balign 4096\\n.hidden model_constants\\n.global model_constants\\n'
        'model_constants:\\n.incbin \\"constants.bin\\"\\n.text\\n");',
        "extern const char model_constants[];",
        *(f"extern int __tvm_ffi_{name}(void*, const Any*, int32_t, Any*);" for name in names),
        *(f"static int64_t extents{i}[] = {{{shape}}};" for i, shape in enumerate(shapes)),
        "static Tensor tensors[] = {",
        *(f"  {_descriptor(tensor, i)}," for i, tensor in enumerate(tensors)),
        "};",
        "static const struct { int kind; int64_t at; } places[] = {",
        *(f"  {_place(tensor, inputs)}," for tensor in tensors),
        "};",
        "static const Any arguments[] = {",
        *(
            "  " + " ".join(f"{{TENSOR_PTR, 0, {{.p = tensors + {number[t]}}}}}," for t in call.arguments)
            for call in plan.calls
        ),
        "};",
        '__attribute__((visibility("default"))) const char* const tuner_kernels[] = {',
        *(f'  "{symbols[call.kernel]}",' for call in plan.calls),
        "};",
        "static const struct { Kernel kernel; int32_t count; } calls[] = {",
        *(f"  {{__tvm_ffi_{symbols[call.kernel]}, {len(call.arguments)}}}," for call in plan.calls),
        "};",
        _BODY,
    ]
    return "\n".join(lines)


def _extents(tensor: Tensor) -> str:
    """The shape, then the strides in elements; a scalar has one entry that nobody reads."""
    strides = [int(np.prod(tensor.shape[i + 1 :], dtype=np.int64)) for i in range(len(tensor.shape))]
    return ", ".join(map(str, [*tensor.shape, *strides])) or "1"


def _descriptor(tensor: Tensor, number: int) -> str:
    rank, extents = len(tensor.shape), f"extents{number}"
    code, bits = _type(tensor.dtype)
    return f"{{NULL, {{1, 0}}, {rank}, {{{code}, {bits}, 1}}, {extents}, {extents} + {rank}, 0}}"


def _type(name: str) -> tuple[int, int]:
    """DLPack's code of a type, and its bits."""
    if name == "bfloat16":  # numpy's own types do not have it
        return 4, 16
    dtype = np.dtype(name)
    return _CODES[dtype.kind], 8 * dtype.itemsize


def _place(tensor: Tensor, inputs: int) -> str:
    place = tensor.place
    if place.kind in ("input", "output"):
        return f"{{ARGUMENT_KIND, {place.at + (inputs if place.kind == 'output' else 0)}}}"
    return f"{{{place.kind.upper()}_KIND, {place.at}}}"
