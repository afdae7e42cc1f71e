"""Kernels in native code that do what kernels must not, each an entry of one real shared library.

They have the signature of a matmul of 64 x 64 float32 and TVM's calling convention, so that the real worker loads and
calls them as it does candidates. What would hurt the machine if a limit failed is written so that it gives up first.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm_ffi

from tuner.devices.cpu.codegen import linker
from tuner.records import Status

N = 64


@dataclass(frozen=True)
class Hostile:
    """`body` has A, B (inputs), C (output), n (the number of this call) and right(), which computes C.

    The measurement must have the status, and a reason that contains `says`.
    """

    name: str
    body: str
    status: Status
    says: str = ""


FAILED, LATE, WRONG, OK = Status.RUN_FAILED, Status.RUN_TIMEOUT, Status.WRONG_RESULT, Status.OK

_ENDS = (
    Hostile("endless_loop", "for (;;) ;", LATE, "no reply"),
    Hostile("stops_itself", "raise(SIGSTOP);", LATE, "no reply"),
    Hostile("segfault", "volatile int *p = 0; *p = 1;", FAILED, "SIGSEGV"),
    Hostile("abort", "abort();", FAILED, "SIGABRT"),
    Hostile("illegal_instruction", "__builtin_trap();", FAILED, "SIG"),
    Hostile("exit", "_exit(7);", FAILED, "code 7"),
    Hostile("kills_itself", "kill(getpid(), SIGKILL);", FAILED, "SIGKILL"),
    Hostile("crash_in_timing", "right(); if (n == 5) abort();", FAILED, "SIGABRT"),
    Hostile("last_words", 'fprintf(stderr, "out of luck\\n"); abort();', FAILED, "it last said: out of luck"),
    Hostile("error", 'TVMFFIErrorSetRaisedFromCStr("ValueError", "cannot"); return -1;', FAILED, "cannot"),
)

_TAKES = (
    # Each of these ends in abort() because it was refused; 99 would say that it was not.
    Hostile("allocate_20_gb", "if (malloc(20ul << 30)) _exit(99); abort();", FAILED, "SIGABRT"),
    Hostile(
        "map_20_gb",
        "if (mmap(0, 20ul << 30, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) _exit(99); abort();",
        FAILED,
        "SIGABRT",
    ),
    Hostile(
        "allocate_without_end",
        "for (int i = 0; i < 50; ++i) { char *p = malloc(64ul << 20); if (!p) abort(); memset(p, 1, 1ul << 20); } "
        "_exit(99);",
        FAILED,
        "SIGABRT",
    ),
    Hostile(
        "fork_bomb",
        "for (int i = 0; i < 100; ++i) { pid_t p = fork(); if (p == 0) sleep(20); if (p >= 0) _exit(99); } abort();",
        FAILED,
        "SIGABRT",
    ),
    Hostile(
        "daemon", 'if (daemon(0, 0) == 0) _exit(99); if (system("true") == 0) _exit(99); abort();', FAILED, "SIGABRT"
    ),
    Hostile("open_files", "while (dup(1) >= 0) ; right(); abort();", FAILED, "SIGABRT"),
    Hostile("flood", "for (int i = 0; i < 200; ++i) write(1, big, sizeof big); right();", OK),
    Hostile("endless_flood", "for (;;) write(1, big, sizeof big);", LATE, "no reply"),
    Hostile("scribble_on_pipes", "for (int i = 3; i < 64; ++i) write(i, big, 4096); right();", FAILED, ""),
    Hostile("close_everything", "for (int i = 0; i < 256; ++i) close(i); right();", FAILED, ""),
)

_WRITES = (
    Hostile("before_output", "right(); ((char *)C)[-1] ^= 1;", WRONG, "1 bytes before the start of output 0"),
    Hostile("past_output", "right(); C[64 * 64] = 0;", WRONG, "4 bytes past the end of output 0"),
    Hostile("far_past_output", "right(); C[2 * 64 * 64] = 0;", WRONG, "past the end of output 0"),
    Hostile("before_input", "right(); A[-3] = 0;", WRONG, "12 bytes before the start of input 0"),
    Hostile("past_input", "right(); B[64 * 64 + 7] = 0;", WRONG, "32 bytes past the end of input 1"),
    Hostile("past_output_later", "right(); if (n == 4) C[64 * 64] = 0;", WRONG, "timing: the kernel wrote 4 bytes"),
    Hostile("input_changed", "right(); B[9] += 1;", WRONG, "changed input 1"),
    Hostile("input_changed_later", "right(); if (n == 4) A[9] = 0;", WRONG, "after timing: the kernel changed input 0"),
)

_ANSWERS = (
    Hostile("not_written", "", WRONG, "not finite"),
    Hostile("one_not_written", "float old = C[4095]; right(); C[4095] = old;", WRONG, "1 values not finite"),
    Hostile("nan", "right(); C[100] = NAN;", WRONG, "1 values not finite"),
    Hostile("infinite", "right(); C[100] = INFINITY;", WRONG, "1 values not finite"),
    Hostile("stale", "if (n == 1) right();", WRONG, "on other inputs, after timing"),
    Hostile(
        "cached",
        "static float kept[4096]; if (n == 1) { right(); memcpy(kept, C, sizeof kept); } memcpy(C, kept, sizeof kept);",
        WRONG,
        "on other inputs, after timing",
    ),
    Hostile("wrong_later", "right(); if (n >= 4) C[0] = 0;", WRONG, "after timing"),
    Hostile("zeros", "memset(C, 0, 4 * 4096);", WRONG, "wrong"),
    Hostile("a_little_wrong", "right(); C[77] += OVER;", WRONG, "1 of 4096 values wrong"),
    Hostile("a_little_off", "right(); C[77] += UNDER;", OK),
)

CASES = (*_ENDS, *_TAKES, *_WRITES, *_ANSWERS)

_SOURCE = r"""
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <tvm/ffi/c_api.h>

static char big[1 << 20];

static float *data(const TVMFFIAny *any) {
  const DLTensor *t = any->type_index == kTVMFFIDLTensorPtr ? (const DLTensor *)any->v_ptr
                                                            : (DLTensor *)((char *)any->v_obj + sizeof(TVMFFIObject));
  return (float *)((char *)t->data + t->byte_offset);
}

static void product(const float *A, const float *B, float *C) {
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < 64; ++j) {
      double sum = 0;
      for (int k = 0; k < 64; ++k) sum += (double)A[64 * i + k] * B[64 * k + j];
      C[64 * i + j] = (float)sum;
    }
}
#define right() product(A, B, C)
"""

_ENTRY = """
int __tvm_ffi_{name}(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {{
  static long n; ++n;
  float *A = data(&args[0]), *B = data(&args[1]), *C = data(&args[2]);
  (void)A; (void)B; (void)C;
  {body}
  return 0;
}}
"""


def compile_all(folder: Path, cases: Sequence[Hostile], over: float, under: float) -> Path:
    """A library of cases. `over` and `under` are errors just outside and just inside of the tolerance."""
    source, made, shared = folder / "hostile.c", folder / "hostile.o", folder / "hostile.so"
    source.write_text(_SOURCE + "".join(_ENTRY.format(name=case.name, body=case.body) for case in cases))
    include = [f"-I{tvm_ffi.libinfo.find_include_path()}", f"-I{tvm_ffi.libinfo.find_dlpack_include_path()}"]
    flags = ["-O1", "-w", "-Werror=implicit-function-declaration", "-fPIC", f"-DOVER={over!r}f", f"-DUNDER={under!r}f"]
    subprocess.run(["cc", *flags, *include, "-c", str(source), "-o", str(made)], check=True)
    subprocess.run([*linker(), "-o", str(shared), str(made)], check=True)
    return shared
