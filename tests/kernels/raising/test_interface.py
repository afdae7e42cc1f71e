"""What is raised and what is not for how it is called, and for what machine it was compiled."""

from __future__ import annotations

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from kernels.raising import ir
from kernels.raising.findings import analyse
from kernels.raising.interface import is_foreign
from kernels.raising.raised import raised
from kernels.raising.reasons import Abstained, MalformedIr
from kernels.raising.references import by_value
from tests.kernels.raising.test_ir import LOOP

BODY = LOOP[LOOP.index("entry:") :]

REFUSED = {
    "define internal void @scale(i32 %n, ptr %x) {": "static function",
    "define available_externally void @scale(i32 %n, ptr %x) {": "elsewhere",
    "define fastcc void @scale(i32 %n, ptr %x) {": "calling convention than C's: fastcc",
    "define x86_vectorcallcc void @scale(i32 %n, ptr %x) {": "x86_vectorcallcc",
    "%s = type { i64, i64, i64 }\ndefine void @scale(i32 %n, ptr %x, ptr byval(%s) align 8 %z) {": "by value",
    "%s = type { i64, i64, i64 }\ndefine void @scale(ptr sret(%s) align 8 %z, i32 %n, ptr %x) {": "as its value",
    "define void @scale(i32 %n, ptr %x, i32 inreg %z) {": "register of its own",
    "define void @scale(i32 %n, ptr %x, ...) {": "variable number",
    "define void @scale(i32 %n, ptr %x, ptr addrspace(256) %z) {": "address space",
}


@pytest.mark.parametrize("head", REFUSED)
def test_what_no_c_program_can_call_is_refused(head: str) -> None:
    [function] = ir.read(f"{head}\n{BODY}")
    with pytest.raises(Abstained, match=REFUSED[head]):
        raised(analyse(function), {"%n": 8}, True)


@pytest.mark.parametrize("head", ["define hidden void", "define weak void", "define dso_local void", "define ccc void"])
def test_other_definitions_are_raised(head: str) -> None:
    [function] = ir.read(f"{head} @scale(i32 noundef %n, ptr nocapture nonnull %x) {{\n{BODY}")
    assert raised(analyse(function), {"%n": 8}, True).outputs[0].shape == (8,)


def test_names_of_arguments_are_not_taken_for_attributes() -> None:
    text = f"define void @scale(i32 %n, ptr %x, ptr %nest, ptr %byval) {{\n{BODY}"
    [function] = ir.read(text)
    assert function.unusual == ""


def test_memory_of_another_address_space_is_left_alone() -> None:
    body = BODY.replace("ptr %x", "ptr addrspace(256) %x").replace("ptr %at", "ptr addrspace(256) %at")
    [function] = ir.read(f"define void @scale(i32 %n, ptr addrspace(256) %x) {{\n{body}")
    [finding] = analyse(function).findings
    assert finding.reason == "pointer"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ('target triple = "i386-pc-linux-gnu"', "addresses of 64 bits"),
        ('target triple = "armv7-linux-gnueabihf"', "addresses of 64 bits"),
        ('target datalayout = "e-m:e-p:32:32-i64:64"', "addresses of 64 bits"),
        ('target datalayout = "E-m:e-i64:64"', "highest byte"),
    ],
)
def test_other_machines_are_one_error(head: str, words: str) -> None:
    with pytest.raises(MalformedIr, match=words):
        ir.read(f"{head}\n{LOOP}")


def test_machines_of_64_bits_are_read_and_known_as_foreign() -> None:
    for triple, foreign in (
        ("sparcv9-unknown-linux", True), ("x86_64-pc-windows-msvc", True), ("x86_64-unknown-linux-gnu", False),
        ("", False),
    ):  # fmt: skip
        [function] = ir.read(f'target triple = "{triple}"\n{LOOP}' if triple else LOOP)
        assert is_foreign(function.machine) == foreign


BY_REFERENCE = """
define void @scale_(ptr {kind} %n, ptr noalias %x) {{
entry:
  %count = load i32, ptr %n, align 4
  br label %head
head:
  %i = phi i32 [ 0, %entry ], [ %next, %body ]
  %now = load i32, ptr %n, align 4
  %more = icmp slt i32 %i, {bound}
  br i1 %more, label %body, label %exit
body:
  %wide = sext i32 %i to i64
  %at = getelementptr inbounds float, ptr %x, i64 %wide
  %value = load float, ptr %at, align 4
  %twice = fmul float %value, 2.000000e+00
  store float %twice, ptr %at, align 4
  %next = add nsw i32 %i, 1
  br label %head
exit:
  ret void
}}
"""


def test_a_number_behind_a_pointer_is_a_size() -> None:
    text = BY_REFERENCE.format(kind="nonnull", bound="%now")
    [function] = map(by_value, ir.read(text))
    assert (function.arguments[0].type, function.arguments[0].reference) == ("i32", True)
    assert raised(analyse(function), {"%n": 8}, True).outputs[0].shape == (8,)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("%count = load i32", "%count = load volatile i32"),
        ("slt i32 %i, %now", "slt i32 %i, 9"),
        ("  store float %twice", "  store i32 0, ptr %n, align 4\n  store float %twice"),
        ("  store float %twice", "  store ptr %n, ptr %at, align 4\n  store float %twice"),
        ("%at = getelementptr", "%other = getelementptr i32, ptr %n, i64 %wide\n  %at = getelementptr"),
    ],
)
def test_a_pointer_that_is_used_otherwise_is_none_to_a_number(before: str, after: str) -> None:
    text = BY_REFERENCE.format(kind="nonnull", bound="%now").replace(before, after)
    if "%other" in after:
        text = text.replace("store float %twice, ptr %at", "store float %twice, ptr %other")
    [function] = map(by_value, ir.read(text))
    assert not function.arguments[0].reference


CHECKED = """
declare void @panic(i64, i64)
define void @scale(i64 %n, ptr %x, i64 %length) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %test, label %exit
test:
  %inside = icmp ult i64 %i, %length
  br i1 %inside, label %body, label %fail
body:
  %at = getelementptr inbounds float, ptr %x, i64 %i
  %value = load float, ptr %at, align 4
  %twice = fmul float %value, 2.000000e+00
  store float %twice, ptr %at, align 4
  %next = add nuw nsw i64 %i, 1
  br label %head
fail:
  call void @panic(i64 %i, i64 %length)
  unreachable
exit:
  ret void
}
"""


def test_a_check_that_ends_the_program_is_required_not_to() -> None:
    [function] = ir.read(CHECKED)
    analysis = analyse(function)
    assert [finding.pattern for finding in analysis.findings] == ["elementwise"]
    assert raised(analysis, {"%n": 8, "%length": 8}, True).outputs[0].shape == (8,)
    with pytest.raises(Abstained, match="sizes"):
        raised(analyse(ir.read(CHECKED)[0]), {"%n": 8, "%length": 7}, True)


def test_a_check_of_data_is_left_alone() -> None:
    seen = "%seen = load i64, ptr %x, align 8\n  %inside = icmp ult"
    text = CHECKED.replace("%inside = icmp ult", seen).replace("%i, %length\n  br", "%i, %seen\n  br")
    [finding] = analyse(ir.read(text)[0]).findings
    assert finding.reason == "data-dependent-control"
