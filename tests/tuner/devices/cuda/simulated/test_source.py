"""CUDA source in a host compiler's words: what is translated, and what is refused by name."""

from __future__ import annotations

import pytest

from tuner.devices.cuda.simulated.source import Untranslatable, kernels, translated


def kernel(body: str, before: str = "") -> str:
    return f'{before}extern "C" __global__ void __launch_bounds__(64, 2) k(float* x) {{\n{body}\n}}\n'


def test_a_kernel_is_found_with_its_bounds_and_its_declaration_is_not() -> None:
    declared = 'extern "C" __global__ void __launch_bounds__(64) k(float* x);\n'
    [found] = kernels(declared + kernel("if (x) { x[0] = 1; }"))
    assert (found.name, found.max_threads) == ("k", 64)
    [unbounded] = kernels('extern "C" __global__ void k(float* x) { }')
    assert unbounded.max_threads == 1024


def test_the_table_names_every_kernel_with_what_it_takes() -> None:
    text = translated(kernel("") + kernel("").replace(" k(", " other("), {"k": 1e-5}, {"other": 40})
    assert "SIMT_KERNEL(k, nullptr, nullptr, 64, 0, 1e-05)" in text
    assert "SIMT_KERNEL(other, nullptr, nullptr, 64, 40, 0.0)" in text


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("__shared__ alignas(64) half s[12];", "char s_bytes[sizeof(half) * (12)]; half* const s = (half*)s_bytes;"),
        ("__shared__ unsigned char s[4 * 2];", "unsigned char* const s = (unsigned char*)s_bytes;"),
        ("__shared__ float one;", 'static __attribute__((section("simt_shared_k")))  float one;'),
        ("extern __shared__ __align__(64) uchar d[];", "uchar * const d = (uchar *)simt_dynamic_shared();"),
    ],
)
def test_shared_memory_has_a_place_of_its_own(body: str, made: str) -> None:
    text = translated(kernel(body), {}, {})
    assert " ".join(made.split()) in " ".join(text.split())
    assert ("__stop_simt_shared_k" in text) == ("extern" not in body)


GUARDED = r"""asm volatile("{\n" " .reg .pred p;\n" " setp.eq.u32 p, %3, 1;\n"
  " @p cp.async.ca.shared.global [%0], [%1], %2;\n" " @!p st.shared.v2.u32 [%0], {%4, %5};\n" "}\n"
  :: "r"(to), "l"(from), "n"(8), "r"(here), "r"(0), "r"(0));"""


REPEATED = GUARDED.replace("{%4, %5}", "{%4, %4}").replace('"r"(0), "r"(0)', '"r"(7)')


@pytest.mark.parametrize(
    ("statement", "call"),
    [
        ('asm volatile("cp.async.wait_group 2;" : : : "memory");', "ptx_cp_async_wait_group(2);"),
        ('asm volatile("cp.async.commit_group;" : : );', "ptx_cp_async_commit_group();"),
        ('__asm__ __volatile__("cp.async.cg.shared.global.L2::128B [%0], [%1], %2;" :: "r"(f(a, b)), "l"(p), "n"(16));',
         "ptx_cp_async(f(a, b), p, 16);"),
        ('asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));', "ptx_dp4a_u32_s32(r, a, b, c);"),
        (REPEATED, "ptx_cp_async_where(to, from, 8, here, 7, 7);"),
        (GUARDED, "ptx_cp_async_where(to, from, 8, here, 0, 0);"),
    ],
)  # fmt: skip
def test_ptx_becomes_a_call(statement: str, call: str) -> None:
    assert call in translated(kernel(statement), {}, {})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (kernel('asm volatile("mma.sync.aligned.m16n8k8 {%0}, {%1};" : "=r"(a) : "r"(b));'), "'mma.sync.aligned"),
        (kernel('asm volatile("cp.async.commit_group;" : : [named] "r"(x));'), "an operand of PTX is not understood"),
        ("__global__ void k(float* x) {}", "no kernel: expected"),
        (kernel("if (x) {"), "a bracket is not closed"),
    ],
)
def test_what_is_not_known_is_named(source: str, words: str) -> None:
    with pytest.raises(Untranslatable, match=words):
        translated(source, {}, {})
