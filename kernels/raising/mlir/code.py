"""LLVM IR as text, written in order: registers, blocks, loops."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

Words = str
"""A value as LLVM prints it: a register or a constant."""


class Locations:
    """Lines of the source as LLVM's debug information. A scope is a function, by the number that `scope` gives."""

    def __init__(self) -> None:
        self._text = [
            '!llvm.module.flags = !{!0}', '!llvm.dbg.cu = !{!1}', '!0 = !{i32 2, !"Debug Info Version", i32 3}',
            '!1 = distinct !DICompileUnit(language: DW_LANG_C, file: !2, emissionKind: LineTablesOnly)',
            '!2 = !DIFile(filename: "source", directory: "")', '!3 = !DISubroutineType(types: !4)', '!4 = !{null}',
        ]  # fmt: skip
        self._next = 5
        self._known: dict[tuple[int, int], int] = {}

    def scope(self, line: int) -> int:
        """The number of a function that begins at a line."""
        form = 'distinct !DISubprogram(name: "f", file: !2, line: {}, type: !3, unit: !1, spFlags: DISPFlagDefinition)'
        return self._add(form.format(line))

    def of(self, scope: int, line: int) -> int:
        """The number of a line."""
        if (scope, line) not in self._known:
            self._known[scope, line] = self._add(f"!DILocation(line: {line}, column: 1, scope: !{scope})")
        return self._known[scope, line]

    def _add(self, text: str) -> int:
        self._text.append(f"!{self._next} = {text}")
        self._next += 1
        return self._next - 1

    def text(self) -> str:
        return "\n".join(self._text)


class Code:
    """The body of one function. `line`: that of the source, noted at each instruction; `depth`: how many loops and
    choices are around."""

    def __init__(self, locations: Locations, scope: int) -> None:
        self.text: list[str] = ["entry:"]
        self.block = "entry"
        self.line = 0
        self.depth = 0
        self._locations, self._scope = locations, scope
        self._registers = 0
        self._blocks = 0

    def value(self, instruction: str) -> Words:
        """Write an instruction that has a value."""
        self._registers += 1
        register = f"%.{self._registers}"
        self.do(f"{register} = {instruction}")
        return register

    def do(self, instruction: str) -> None:
        self.text.append(f"  {instruction}, !dbg !{self._locations.of(self._scope, self.line)}")

    def label(self, word: str) -> str:
        """A name for a block."""
        self._blocks += 1
        return f".{word}{self._blocks}"

    def begin(self, block: str) -> None:
        self.text.append(f"{block}:")
        self.block = block

    def jump(self, block: str) -> None:
        self.do(f"br label %{block}")

    # --- integers of 64 bits, constants folded

    def add(self, a: Words, b: Words) -> Words:
        if _is_number(a) and _is_number(b):
            return str(int(a) + int(b))
        if "0" in (a, b):
            return b if a == "0" else a
        return self.value(f"add nsw i64 {a}, {b}")

    def multiply(self, a: Words, b: Words) -> Words:
        if _is_number(a) and _is_number(b):
            return str(int(a) * int(b))
        if "0" in (a, b):
            return "0"
        if "1" in (a, b):
            return b if a == "1" else a
        return self.value(f"mul nsw i64 {a}, {b}")

    def least(self, values: Sequence[Words], which: str = "smin") -> Words:
        """The least or, with `smax`, the greatest."""
        found = values[0]
        for other in values[1:]:
            found = self.value(f"call i64 @llvm.{which}.i64(i64 {found}, i64 {other})")
        return found

    # --- control

    def loop(
        self, start: Words, end: Words, step: Words, carried: Sequence[tuple[str, Words]],
        body: Callable[[Words, Sequence[Words]], Sequence[Words]],
    ) -> list[Words]:  # fmt: skip
        """Loop while the counter is below `end`. `carried`: types and first values; `body` gives the next ones.

        Returns the last ones.
        """
        if all(map(_is_number, (start, end, step))) and int(start) < int(end) <= int(start) + int(step):
            return list(body(start, [first for _, first in carried]))  # it runs once
        before, header, inside, after = self.block, self.label("test"), self.label("body"), self.label("end")
        latch = self.label("next")
        self.jump(header)
        self.begin(header)
        counter, names = f"%{header}.i", [f"%{header}.{number}" for number in range(len(carried))]
        place = len(self.text)
        compared = self.value(f"icmp slt i64 {counter}, {end}")
        self.do(f"br i1 {compared}, label %{inside}, label %{after}")
        self.begin(inside)
        self.depth += 1
        results = list(body(counter, names))
        self.depth -= 1
        self.jump(latch)
        self.begin(latch)
        following = self.value(f"add nsw i64 {counter}, {step}")
        self.jump(header)
        phis = [f"  {counter} = phi i64 [ {start}, %{before} ], [ {following}, %{latch} ]"]
        for name, (kind, first), last in zip(names, carried, results, strict=True):
            phis.append(f"  {name} = phi {kind} [ {first}, %{before} ], [ {last}, %{latch} ]")
        self.text[place:place] = phis
        self.begin(after)
        return names

    def choice(
        self, condition: Words, kinds: Sequence[str], then: Callable[[], Sequence[Words]],
        otherwise: Callable[[], Sequence[Words]],
    ) -> list[Words]:  # fmt: skip
        """Either of two; returns the values of that which ran."""
        first, second, after = self.label("then"), self.label("else"), self.label("end")
        self.do(f"br i1 {condition}, label %{first}, label %{second}")
        ways = []
        for block, write in ((first, then), (second, otherwise)):
            self.begin(block)
            self.depth += 1
            results = write()
            self.depth -= 1
            ways.append((self.block, list(results)))
            self.jump(after)
        self.begin(after)
        (one, ones), (other, others) = ways
        return [
            self.value(f"phi {kind} [ {a}, %{one} ], [ {b}, %{other} ]")
            for kind, a, b in zip(kinds, ones, others, strict=True)
        ]


def _is_number(word: Words) -> bool:
    return word.lstrip("-").isdigit()


def float_word(value: float, kind: str) -> Words:
    """A constant of a float type, exactly."""
    if kind == "float":
        [value] = struct.unpack("f", struct.pack("f", value)) if abs(value) < 3.5e38 or value != value else [value]
    return f"0x{struct.unpack('Q', struct.pack('d', value))[0]:016X}"
