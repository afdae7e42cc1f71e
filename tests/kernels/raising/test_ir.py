"""Reading IR: what is malformed is one sentence with its place, whatever else is read."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from kernels.raising import ir
from kernels.raising.findings import analyse
from kernels.raising.reasons import MalformedIr

LOOP = """
define void @scale(i32 %n, ptr noalias %x) {
entry:
  br label %head
head:
  %i = phi i32 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i32 %i, %n
  br i1 %more, label %body, label %exit
body:
  %wide = sext i32 %i to i64
  %at = getelementptr inbounds float, ptr %x, i64 %wide
  %value = load float, ptr %at, align 4
  %twice = fmul fast float %value, 2.000000e+00
  store float %twice, ptr %at, align 4
  %next = add nsw i32 %i, 1
  br label %head
exit:
  ret void
}
"""

TYPED = """
define void @scale(i32 %n, float* %x) {
entry:
  %empty = icmp sle i32 %n, 0
  br i1 %empty, label %exit, label %body
body:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %at = getelementptr inbounds float, float* %x, i64 %i
  store float 0x3FF3AE1480000000, float* %at, align 4
  %next = add nuw nsw i64 %i, 1
  %end = sext i32 %n to i64
  %done = icmp eq i64 %next, %end
  br i1 %done, label %exit, label %body
exit:
  ret void
}
"""


def test_instructions_have_flags_types_and_operands() -> None:
    [function] = ir.read(LOOP)
    assert [(a.type, a.noalias) for a in function.arguments] == [("i32", False), ("ptr", True)]
    opcodes = {i.opcode: i for block in function.blocks.values() for i in block.instructions}
    assert opcodes["fmul"].flags == {"fast"}
    assert opcodes["icmp"].predicate == "slt"
    assert opcodes["getelementptr"].source_type == "float"
    assert opcodes["store"].operands[0].type == "float"
    assert len(opcodes["phi"].targets) == 2


def test_pointers_with_types_are_read() -> None:
    [function] = ir.read(TYPED)
    [finding] = analyse(function).findings
    assert finding.pattern == "fill"


def test_a_loop_is_found_without_debug_information() -> None:
    [finding] = analyse(ir.read(LOOP)[0]).findings
    assert (finding.pattern, finding.lines) == ("elementwise", ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("define void @f( {", "line 1:18"),
        (LOOP.replace("fmul fast float", "fmul fast flaot"), "line 13:"),
        (LOOP.replace("%value, 2", "%nothing, 2"), "line 13:"),
        (LOOP.replace("  ret void\n", ""), "line 18:"),
    ],
)
def test_malformed_text_is_one_sentence_with_its_place(text: str, words: str) -> None:
    with pytest.raises(MalformedIr) as caught:
        ir.read(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"BC\xc0\xde", b"BC\xc0\xde" + b"\0" * 64, b"\xff" * 100])
def test_what_is_no_bitcode_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedIr):
        ir.read(content)


def test_the_printed_form_may_hold_anything_where_an_instruction_stands() -> None:
    """What LLVM prints in a form unknown here is an instruction without operands, never an error."""
    rng = random.Random(0)
    lines = LOOP.splitlines()
    for _ in range(200):
        changed = list(lines)
        place = rng.randrange(8, len(changed) - 6)
        cut = rng.randrange(3, max(4, len(changed[place])))
        changed[place] = changed[place][:cut] + rng.choice(["(", "]", '"', ", ,", "%", " !x", ""])
        for function in ir.parsed("\n".join(changed).replace("scale(", "scale(")):
            analyse(function)
