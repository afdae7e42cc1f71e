"""LLVM IR as text becomes functions of instructions, with flags, predicates and source lines.

LLVM reads, verifies and canonicalises the module; what it prints afterwards has one stable form, which is read here.
Nothing of the module is ever run. `read` may crash or hang on hostile input: call it in a confined child.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import llvmlite.binding as llvm

from kernels.raising.interface import check_machine, unusual
from kernels.raising.reasons import MalformedIr

FAST_MATH = frozenset(("nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc", "fast"))
_FLAGS = FAST_MATH | {"nuw", "nsw", "exact", "inbounds", "nusw", "nneg", "disjoint", "samesign", "volatile", "atomic"}
_FLAGS |= {"tail", "musttail", "notail"}
_CASTS = {
    "sext", "zext", "trunc", "sitofp", "uitofp", "fptosi", "fptoui", "fpext", "fptrunc", "ptrtoint", "inttoptr",
    "bitcast", "addrspacecast",
}  # fmt: skip
_BINARY = {
    "add", "sub", "mul", "sdiv", "udiv", "srem", "urem", "shl", "lshr", "ashr", "and", "or", "xor", "fadd", "fsub",
    "fmul", "fdiv", "frem",
}  # fmt: skip
_LEAST = {"load": 1, "store": 2, "getelementptr": 2, "phi": 1, "select": 3, "fneg": 1, "freeze": 1}
"""How many operands an instruction has at least."""

_NAME = r'(?:"[^"]*"|[-\w.$]+)'
_LINE = re.compile(rf"^  (?:(%{_NAME}) = )?(\S+) ?(.*)$")
_DEBUG = re.compile(r", !dbg (!\d+)")
_VARIABLE = re.compile(r'!DILocalVariable\(name: "([^"]+)", arg: (\d+), scope: (!\d+)')
_LOCATION = re.compile(r"^(!\d+) = (?:distinct )?!DILocation\(line: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Operand:
    """A typed use: `word` is a name (%x, @g) or a constant as LLVM prints it."""

    type: str
    word: str


@dataclass(frozen=True)
class Instruction:
    """One instruction. `operands` by opcode: see `_parsed`. `targets` are block names (br's, phi's incoming ones)."""

    name: str
    opcode: str
    type: str
    operands: tuple[Operand, ...]
    flags: frozenset[str] = frozenset()
    predicate: str = ""
    callee: str = ""
    targets: tuple[str, ...] = ()
    source_type: str = ""
    line: int | None = None


@dataclass
class Block:
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def terminator(self) -> Instruction:
        return self.instructions[-1]


@dataclass(frozen=True)
class Argument:
    """`label` is its name in the source, where debug information has it. `reference`: its address is handed over."""

    name: str
    type: str
    noalias: bool
    label: str
    reference: bool = False


@dataclass
class Function:
    """A definition: blocks in printed order, the entry first. `unusual`: why no C program can call it, "" where one
    can. `machine` is what it was compiled for, as LLVM names that, "" where the module does not say."""

    name: str
    result: str
    arguments: tuple[Argument, ...]
    blocks: dict[str, Block]
    line: int | None = None
    unusual: str = ""
    machine: str = ""


def read(content: str | bytes) -> list[Function]:
    """The canonicalised functions of a module in text or bitcode. Raises MalformedIr."""
    module = _module(content)
    machine = module.triple
    check_machine(machine, module.data_layout)
    _canonicalise(module)
    return [replace(function, machine=machine) for function in parsed(str(module))]


def _module(content: str | bytes) -> llvm.ModuleRef:
    if isinstance(content, str) and "\0" in content:
        before = content[: content.index("\0")]
        raise MalformedIr(f"line {before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: a zero byte")
    try:
        if isinstance(content, bytes):
            module = llvm.parse_bitcode(content)
            # optnone can be taken off in the text only
            content = str(module)
        module = llvm.parse_assembly(re.sub(r"\b(optnone|noinline) ", "", content))
        module.verify()
    except (RuntimeError, UnicodeError, ValueError) as error:
        raise MalformedIr(_first_line(str(error))) from error
    return module


def _first_line(message: str) -> str:
    """`<string>:12:3: error: ...` without the parts that are the same for every file."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    text = next((line for line in lines if "error:" in line), lines[-1] if lines else "unreadable")
    return re.sub(r"<string>:(\d+):(\d+): error: ", r"line \1:\2: ", text)[:300]


def _canonicalise(module: llvm.ModuleRef) -> None:
    """Variables into registers, simple control flow, one latch and a preheader per loop, values leave loops by phis."""
    tuning = llvm.create_pipeline_tuning_options(speed_level=1)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
    llvm.initialize_native_target()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine()
    builder = llvm.create_pass_builder(target, tuning)
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_dead_code_elimination_pass()
    passes.add_loop_simplify_pass()
    passes.add_lcssa_pass()
    passes.add_instruction_namer_pass()
    passes.run(module, builder)


# --- the printed form ---------------------------------------------------------------------------------------------


def parsed(text: str) -> Iterator[Function]:
    """The functions of a module as LLVM prints it. A line of a form unknown here becomes an opcode without operands."""
    lines = {name: int(number) for name, number in _LOCATION.findall(text)}
    names: dict[str, dict[int, str]] = {}
    for name, number, scope in _VARIABLE.findall(text):
        names.setdefault(scope, {})[int(number)] = name
    subprograms = dict(re.findall(r"^(!\d+) = distinct !DISubprogram\(.*?\bline: (\d+)", text, re.MULTILINE))
    function: Function | None = None
    block: Block | None = None
    pending = ""
    for raw in text.splitlines():
        if function is None:
            if raw.startswith("define "):
                function = _header(raw, subprograms, names)
                block = None
            continue
        if raw == "}":
            yield function
            function = None
            continue
        if pending:
            pending += " " + raw.strip()
            if raw.strip().startswith("]"):
                raw, pending = pending, ""
            else:
                continue
        elif raw.startswith("  switch ") and raw.endswith("["):
            pending = raw
            continue
        label = re.match(rf"^({_NAME}):", raw)
        if label:
            block = Block(label[1].strip('"'))
            function.blocks[block.name] = block
        elif raw.startswith("  ") and not raw.startswith("    ") and block is not None:
            block.instructions.append(_instruction(raw, lines))


def _header(line: str, subprograms: dict[str, str], names: dict[str, dict[int, str]]) -> Function:
    found = re.match(rf"define (.*?)@({_NAME})\(", line)
    if found is None:
        raise MalformedIr(f"not a definition: {line[:80]}")
    inner, _ = _enclosed(line, found.end() - 1)
    debug = re.search(r"!dbg (!\d+)", line)
    arguments = []
    parts = split(inner)
    known = names.get(debug[1], {}) if debug else {}
    if max(known, default=0) != len(parts) - ("..." in parts):
        known = {}  # an argument of the source that is several here: which is which is not told
    for number, part in enumerate(parts, 1):
        words = part.split()
        if not words or words[-1] == "...":
            arguments.append(Argument("...", "...", False, "..."))
            continue
        word = words[-1].replace('"', "")
        label = known.get(number)
        arguments.append(Argument(word, _leading_type(part)[0], "noalias" in words, label or word.lstrip("%")))
    result = re.sub(r"\b(?!void|i\d+|float|double|half|ptr)\w+(?:\([^)]*\))?\s", "", found[1]).strip()
    start = subprograms.get(debug[1]) if debug else None
    line_of_source = int(start) if start else None
    return Function(
        found[2].strip('"'), result or "void", tuple(arguments), {}, line_of_source, unusual(found[1], parts)
    )


def _instruction(raw: str, lines: dict[str, int]) -> Instruction:
    debug = _DEBUG.search(raw)
    text = (
        re.sub(r", !\S+ !\S+", "", raw).split(", align ")[0] if "call" not in raw else re.sub(r", !\S+ !\S+", "", raw)
    )
    found = _LINE.match(text.rstrip())
    if found is None:
        return Instruction("", raw.strip().split(" ")[0][:20], "void", ())
    name = (found[1] or "").replace('"', "")
    words = [found[2]]
    rest = found[3]
    flags = {"addrspace"} if " addrspace(" in text else set()
    if words[0] in ("tail", "musttail", "notail"):
        words[0], _, rest = rest.partition(" ")
    while True:
        first, _, after = rest.partition(" ")
        if first in _FLAGS:
            flags.add(first)
            rest = after
        elif first == "inrange" or first.startswith("inrange("):
            _, rest = _enclosed(rest, rest.index("("))
        else:
            break
    line = lines.get(debug[1]) if debug else None
    try:
        found_instruction = _parsed(name, words[0], rest, frozenset(flags), line or None)
        if len(found_instruction.operands) >= _LEAST.get(words[0], 0):
            return found_instruction
    except (ValueError, IndexError):
        pass
    return Instruction(name, f"unread {words[0]}"[:40], "?", (), frozenset(flags), line=line)


def _parsed(name: str, opcode: str, rest: str, flags: frozenset[str], line: int | None) -> Instruction:
    """binary, cmp: two; casts, fneg, freeze: one; load: the pointer; store: value, pointer; getelementptr: pointer,
    indices; phi: a value per target; select: three; call: arguments; br: none or the condition; ret: none or one."""
    if opcode in _BINARY:
        kind, rest = _leading_type(rest)
        a, b = split(rest)
        return Instruction(name, opcode, kind, (Operand(kind, a), Operand(kind, b)), flags, line=line)
    if opcode in ("icmp", "fcmp"):
        predicate, _, rest = rest.partition(" ")
        kind, rest = _leading_type(rest)
        a, b = split(rest)
        return Instruction(name, opcode, "i1", (Operand(kind, a), Operand(kind, b)), flags, predicate, line=line)
    if opcode in _CASTS:
        value, _, kind = rest.rpartition(" to ")
        return Instruction(name, opcode, kind, (_operand(value),), flags, line=line)
    if opcode in ("fneg", "freeze"):
        used = _operand(rest)
        return Instruction(name, opcode, used.type, (used,), flags, line=line)
    if opcode == "load":
        kind, rest = _leading_type(rest)
        return Instruction(name, opcode, kind, (_operand(split(rest.lstrip(" ,"))[0]),), flags, line=line)
    if opcode == "store":
        stored = tuple(_operand(part) for part in split(rest)[:2])
        return Instruction(name, opcode, "void", stored, flags, line=line)
    if opcode == "getelementptr":
        source, rest = _leading_type(rest)
        parts = tuple(_operand(part) for part in split(rest.lstrip(" ,")))
        return Instruction(name, opcode, "ptr", parts, flags, source_type=source, line=line)
    if opcode == "phi":
        kind, rest = _leading_type(rest)
        pairs = [split(part.strip()[1:-1]) for part in split(rest)]
        operands = tuple(Operand(kind, value.strip()) for value, _ in pairs)
        targets = tuple(block.strip().lstrip("%").strip('"') for _, block in pairs)
        return Instruction(name, opcode, kind, operands, flags, targets=targets, line=line)
    if opcode == "select":
        operands = tuple(_operand(part) for part in split(rest))
        return Instruction(name, opcode, operands[1].type, operands, flags, line=line)
    if opcode == "br":
        labels = tuple(re.findall(rf"label %({_NAME})", rest))
        labels = tuple(label.strip('"') for label in labels)
        conditions = tuple(_operand(part) for part in split(rest) if not part.startswith("label"))
        return Instruction(name, opcode, "void", conditions, flags, targets=labels, line=line)
    if opcode == "ret":
        operands = () if rest.startswith("void") else (_operand(rest),)
        return Instruction(name, opcode, "void", operands, flags, line=line)
    if opcode == "alloca":
        kind, rest = _leading_type(rest)
        counts = tuple(_operand(part) for part in split(rest.lstrip(" ,")) if part and not part.startswith("addrspace"))
        return Instruction(name, opcode, "ptr", counts, flags, source_type=kind, line=line)
    if opcode == "call":
        return _call(name, rest, flags, line)
    if opcode == "switch":
        targets = tuple(re.findall(rf"label %({_NAME})", rest))
        return Instruction(name, opcode, "void", (), flags, targets=tuple(t.strip('"') for t in targets), line=line)
    return Instruction(name, opcode, "void", (), flags, line=line)


def _call(name: str, rest: str, flags: frozenset[str], line: int | None) -> Instruction:
    found = re.search(rf"@({_NAME})\(", rest)
    if found is None:
        return Instruction(name, "call", "?", (), flags, line=line)
    inner, _ = _enclosed(rest, found.end() - 1)
    kinds = re.findall(r"(?:^|\s)(void|i\d+|float|double|half|ptr|<[^>]*>|\{[^}]*\})(?=\s)", rest[: found.start()])
    volatile = "llvm.mem" in found[1] and inner.rstrip().endswith("i1 true")
    operands = tuple(_operand(part) for part in split(inner))
    if volatile:
        flags = flags | {"volatile"}
    kind = kinds[-1] if kinds else "?"
    return Instruction(name, "call", kind, operands, flags, callee=found[1].strip('"'), line=line)


def _operand(text: str) -> Operand:
    """`float noundef nofpclass(nan) %x` is a type, attributes and a word; a constant expression keeps its text."""
    kind, rest = _leading_type(text.strip())
    rest = rest.strip()
    while found := re.match(r"(?:[a-z_]+\([^)]*\)|align \d+|[a-z_]+) (?=\S)", rest):
        if re.match(r"(getelementptr|ptrtoint|inttoptr|bitcast|add|sub|trunc|true|false|c|splat)\b", rest):
            break
        rest = rest[found.end() :]
    return Operand(kind, rest.replace('"', "") if rest[:1] in "%@" else rest)


def _leading_type(text: str) -> tuple[str, str]:
    """The type at the start, and what follows."""
    text = text.strip()
    if text[:1] in "[<{":
        depth = 0
        for index, sign in enumerate(text):
            depth += (sign in "[<{") - (sign in "]>}")
            if depth == 0:
                return text[: index + 1], text[index + 1 :].strip()
        raise ValueError(f"no end of {text[0]}")
    found = re.match(rf"(?:%{_NAME}|[a-z]\w*)", text)
    if found is None:
        raise ValueError(f"no type: {text[:40]}")
    return found[0], text[found.end() :].strip()


def _enclosed(text: str, start: int) -> tuple[str, str]:
    """What stands between the parenthesis at `start` and its partner, and what follows."""
    depth = 0
    quoted = False
    for index in range(start, len(text)):
        sign = text[index]
        quoted ^= sign == '"'
        if quoted:
            continue
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return text[start + 1 : index], text[index + 1 :].strip()
    raise ValueError("no end of (")


def split(text: str) -> Sequence[str]:
    """At the commas outside brackets and quotes."""
    parts: list[str] = []
    depth, start, quoted = 0, 0, False
    for index, sign in enumerate(text):
        quoted ^= sign == '"'
        if quoted:
            continue
        depth += (sign in "([{<") - (sign in ")]}>")
        if sign == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    last = text[start:].strip()
    return [*parts, last] if last or parts else []
