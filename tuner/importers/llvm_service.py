"""What reads LLVM IR of strangers: in a child that may neither start processes nor take much memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import MissingPackage, ModelError
from tuner.importers import c_source
from tuner.process.limits import Limits
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

_MEMORY = 4 << 30
_READ_S = 120.0


class LlvmService:
    """In the child: findings of a file of IR."""

    def op_scan(self, path: str) -> list[dict[str, Any]]:
        """Findings, one mapping each, in the order of the file; see `kernels.raising.findings`."""
        from kernels.raising import findings, ir

        content = Path(path).read_bytes()
        functions = ir.read(content if content[:2] in (b"BC", b"\xde\xc0") else content.decode("utf-8", "replace"))
        found = []
        for function in functions:
            analysis = findings.analyse(function)
            needs = analysis.requirements
            found += [{**finding.to_json(), "needs": needs} for finding in analysis.findings]
        return found


def scan(path: Path, level: str = "") -> list[Mapping[str, Any]]:
    """What is found in a .c, .ll or .bc file. Raises ModelError for what cannot be read, or MissingPackage."""
    for package in ("llvmlite", "islpy"):
        if c_source.importlib.util.find_spec(package) is None:
            raise MissingPackage(package, "reading LLVM IR", "llvm")
    content = c_source.ir_of(path, level)
    with tempfile.TemporaryDirectory(prefix="tuner-ir-") as scratch:
        file = Path(scratch, "module")
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
        return called(path, "scan", path=str(file))  # type: ignore[no-any-return]


def called(source: Path, op: str, **arguments: Any) -> Any:
    """An operation of the service in a confined child. Raises ModelError for whatever becomes of it."""
    limits = Limits(memory_bytes=_MEMORY, file_bytes=_MEMORY, open_files=256, may_fork=False, may_leave=False)
    try:
        with Child("tuner.importers.llvm_service:LlvmService", limits=limits) as child:
            return child.call(op, _READ_S, **arguments)
    except ChildError as error:
        if error.kind == "MalformedIr":
            raise ModelError(str(source), str(error).removeprefix("MalformedIr: ")) from error
        if error.kind == "MemoryError":
            raise ModelError(str(source), f"reading it takes more than {_MEMORY >> 30} GB") from error
        raise ModelError(str(source), f"cannot be read ({error})") from error
    except ChildTimeout as error:
        raise ModelError(str(source), f"not read within {_READ_S:.0f} s") from error
    except ChildDied as error:
        raise ModelError(str(source), f"LLVM fails on it: {error}") from error
