"""What reads LLVM IR and MLIR of strangers: in a child that may neither start processes nor take much memory."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import MissingPackage, ModelError
from tuner.importers import c_source
from tuner.process.limits import Limits
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.schema import did_you_mean

_MEMORY = 4 << 30
_READ_S = 120.0


class LlvmService:
    """In the child: findings of a file of IR. A file is MLIR where its name ends in .mlir."""

    def op_scan(self, path: str) -> list[dict[str, Any]]:
        """Findings, one mapping each, in the order of the file; see `kernels.raising.findings`."""
        from kernels.raising import findings

        functions, problems = _read(path)
        found = []
        for function in functions:
            analysis = findings.analyse(function)
            needs = analysis.requirements
            found += [{**finding.to_json(), "needs": needs} for finding in analysis.findings]
        return [*found, *({**findings.left_alone(*problem).to_json(), "needs": []} for problem in problems.items())]

    def op_emit(self, path: str) -> str:
        """The functions of a file as MLIR on tensors; a comment where one is left out, with the reason."""
        from kernels.raising import findings
        from kernels.raising.mlir.emission import emitted
        from kernels.raising.reasons import Abstained

        functions, problems = _read(path)
        texts = []
        for function in functions:
            try:
                texts.append(emitted(findings.analyse(function)))
            except Abstained as problem:
                problems[function.name] = problem
        lines = {name: f", line {problem.line}" if problem.line else "" for name, problem in problems.items()}
        return "\n".join([*texts, *(f"// {name}{lines[name]} is left out: {problems[name]}" for name in problems)])

    def op_raise(
        self, path: str, function: str, sizes: Mapping[str, int], allow_reassociation: bool, threads: int = 0
    ) -> dict[str, Any]:
        """A function at sizes, as relax in TVM's JSON, and how the C function is called; or {"left_alone", "line"}.
        `threads`: of the CPU that it is for, else 0."""
        import tvm

        from kernels.raising.reasons import Abstained

        try:
            analysis, made = _raised(path, function, sizes, allow_reassociation, threads)
        except Abstained as problem:
            return {"left_alone": str(problem), "line": problem.line}
        chosen = analysis.function
        labels = [argument.label for argument in chosen.arguments]

        def described(tensor: Any) -> dict[str, Any]:
            name = "result" if tensor.position < 0 else labels[tensor.position]
            return {
                "name": name, "position": tensor.position, "shape": list(tensor.shape), "dtype": tensor.dtype,
                "scalar": tensor.scalar, "reached": tensor.reached, "direct": tensor.direct,
                "anywhere": tensor.anywhere,
            }  # fmt: skip

        inputs, outputs = [list(map(described, some)) for some in (made.inputs, made.outputs)]
        arguments = [{"name": a.label, "type": a.type, "reference": a.reference} for a in chosen.arguments]
        c = {
            "function": chosen.name, "arguments": arguments, "result": chosen.result, "inputs": inputs,
            "outputs": outputs, "sizes": dict(sizes), "patterns": list(made.patterns), "reordered": made.reordered,
            "others": _others(analysis, sizes),
        }  # fmt: skip
        if made.formula is not None:
            positions = {a.name: number for number, a in enumerate(chosen.arguments)}
            operands = [positions[base] for base in made.formula.operands]
            c["formula"] = {"text": made.formula.text, "operands": operands, "adds": made.formula.adds}
        if path.endswith(c_source.MLIR):
            from kernels.raising.mlir.lowering import lowered

            c["ir"] = lowered(str(_content(path)), function).text
        return {"module": tvm.ir.save_json(made.module), "inputs": inputs, "c": c}


def _others(analysis: Any, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """`kernels.raising.reach.others` by the names that arguments have in the source; elements as pairs."""
    from kernels.raising.reach import others

    labels = {a.name: a.label for a in analysis.function.arguments}
    names = {label: name for name, label in labels.items()}
    return [
        {
            "sizes": {labels[name]: number for name, number in other["sizes"].items()},
            "elements": [list(pair) for pair in other["elements"].items()],
        }
        for other in others(analysis, {names[label]: number for label, number in sizes.items()})
    ]


def _raised(path: str, name: str, sizes: Mapping[str, int], allow: bool, threads: int) -> tuple[Any, Any]:
    """The analysis and what it was raised to. Raises ModelError for a request that is wrong, or Abstained."""
    from kernels.raising import findings, raised
    from kernels.raising.interface import is_foreign

    known_functions, problems = _read(path)
    functions = {function.name: function for function in known_functions}
    if name in problems:
        raise problems[name]
    overloads = [known for known in functions if _plain_name(known) == name]
    if name not in functions and len(overloads) == 1:
        [name] = overloads
    if name not in functions:
        if overloads:
            raise ModelError(name, "there are several of this name", f"model.function: one of {', '.join(overloads)}")
        near = did_you_mean(name, functions) if name else f"model.function: one of {', '.join(list(functions)[:20])}"
        raise ModelError(
            name or "model.function", "there is no such function" if name else "no function is named", near
        )
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ModelError(name[:80], "not the name of a C function", "only such names can be put back behind a symbol")
    function = functions[name]
    if is_foreign(function.machine):
        raise ModelError(name, f"compiled for {function.machine}", "it cannot run here: compile it for this machine")
    numbers = [a for a in function.arguments if a.type.startswith("i")]
    known = {a.label: a.name for a in numbers}
    unknown = next((size for size in sizes if size not in known), None)
    if unknown is not None:
        raise ModelError(f"model.sizes.{unknown}", f"{name} has no such argument", did_you_mean(unknown, known))
    missing = [a.label for a in numbers if a.label not in sizes]
    if missing:
        raise ModelError(f"model.sizes.{missing[0]}", f"{name} needs a number for it", "model: {sizes: {n: 1024}}")
    wide = next((a for a in numbers if sizes[a.label].bit_length() >= int(a.type[1:])), None)
    if wide is not None:
        raise ModelError(f"model.sizes.{wide.label}", f"{sizes[wide.label]} is no number of {wide.type[1:]} bits")
    analysis = findings.analyse(function)
    return analysis, raised.raised(analysis, {known[size]: number for size, number in sizes.items()}, allow, threads)


def _plain_name(symbol: str) -> str:
    """The name in the source of a function of C++ that is in no namespace and no template."""
    found = re.match(r"_Z(\d+)", symbol)
    return symbol[found.end() :][: int(found[1])] if found else symbol


def _read(path: str) -> tuple[list[Any], dict[str, Any]]:
    """The functions of a file, and by name why others are not read. Raises MalformedIr."""
    from kernels.raising import ir
    from kernels.raising.references import by_value

    content = _content(path)
    if not path.endswith(c_source.MLIR):
        return [by_value(function) for function in ir.read(content)], {}
    from kernels.raising.mlir.lowering import lowered

    made = lowered(str(content))
    return ir.read(made.text), dict(made.problems)


def _content(path: str) -> str | bytes:
    content = Path(path).read_bytes()
    return content if content[:2] in (b"BC", b"\xde\xc0") else content.decode("utf-8", "replace")


def _require_packages(needs_mlir: bool) -> None:
    """Raises MissingPackage where what reads LLVM IR, or MLIR, is not installed."""
    for package in ("llvmlite", "islpy"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package, "reading LLVM IR", "llvm")
    if needs_mlir and importlib.util.find_spec("xdsl") is None:
        raise MissingPackage("xdsl", "reading MLIR", "mlir")


def scan(path: Path, level: str = "") -> list[Mapping[str, Any]]:
    """What is found in a .c, .ll, .bc or .mlir file. Raises ModelError for what cannot be read, or MissingPackage."""
    return called(path, "scan", level)  # type: ignore[no-any-return]


def called(source: Path, op: str, level: str = "", **arguments: Any) -> Any:
    """An operation of the service, on a file, in a confined child. Raises ModelError for whatever becomes of it, or
    MissingPackage."""
    _require_packages(source.suffix == c_source.MLIR)
    content = c_source.ir_of(source, level)
    with tempfile.TemporaryDirectory(prefix="tuner-ir-") as scratch:
        file = Path(scratch, "module.mlir" if source.suffix == c_source.MLIR else "module")
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
        return _called(source, op, path=str(file), **arguments)


def _called(source: Path, op: str, **arguments: Any) -> Any:
    limits = Limits(memory_bytes=_MEMORY, file_bytes=_MEMORY, open_files=256, may_fork=False, may_leave=False)
    try:
        with Child("tuner.importers.llvm_service:LlvmService", limits=limits) as child:
            return child.call(op, _READ_S, **arguments)
    except ChildError as error:
        message = str(error).removeprefix(f"{error.kind}: ")
        if error.kind == "MalformedIr":
            raise ModelError(str(source), message) from error
        if error.kind == "ModelError":
            raise ModelError(str(source), message) from error
        if error.kind == "MemoryError":
            raise ModelError(str(source), f"reading it takes more than {_MEMORY >> 30} GB") from error
        raise ModelError(str(source), f"cannot be read ({error})") from error
    except ChildTimeout as error:
        raise ModelError(str(source), f"not read within {_READ_S:.0f} s") from error
    except ChildDied as error:
        raise ModelError(str(source), f"LLVM fails on it: {error}") from error
