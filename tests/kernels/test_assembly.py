"""The code of a kernel as text, and its hottest loop."""

from __future__ import annotations

from tvm.target import Target

from kernels import examples
from kernels.assembly import assembly, hot_loop
from kernels.passes import PassConfig
from kernels.shown import CPU


def test_the_code_of_a_kernel_has_its_loop() -> None:
    applied = PassConfig.from_text("vector_width{bits=512}").applied(examples.products(), Target(CPU))
    code = assembly(applied, CPU)
    assert ".cfi" not in code
    assert "__truncsfhf2" not in code
    loop = hot_loop(code).splitlines()
    assert loop[0].startswith(".L")
    assert loop[0].removesuffix(":") in loop[-1]
    assert sum("vmulps" in line and "zmm" in line for line in loop) >= 4


def test_the_innermost_loop_with_the_most_arithmetic_is_the_hottest() -> None:
    code = """
.LBB0_1:
    xorl %eax, %eax
.LBB0_2:
    vfmadd231ps %zmm0, %zmm1, %zmm2
    vfmadd231ps %zmm0, %zmm1, %zmm3
    jne .LBB0_2
    jne .LBB0_1
.LBB0_3:
    vaddps %zmm0, %zmm1, %zmm2
    jne .LBB0_3
    retq
""".strip()
    assert hot_loop(code).splitlines()[0] == ".LBB0_2:"
    assert len(hot_loop(code).splitlines()) == 4
    assert hot_loop("    retq") == ""
    assert hot_loop("") == ""
