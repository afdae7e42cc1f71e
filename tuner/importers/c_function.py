"""A function of C, LLVM IR or MLIR as a model: `llvm:FILE.c` or `mlir:FILE.mlir`, with a function and its sizes.

Its loops are proven to be tensor computations by `kernels.raising`; where that fails the model is refused with the
reason and its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from tuner.errors import ModelError
from tuner.importers.c_source import MLIR
from tuner.importers.llvm_service import called
from tuner.importers.use import Use
from tuner.models import ImportedModel, InputSpec

_INTEGERS = Use(-8, 7)
"""What integer arrays are drawn from: products and sums stay far from overflow."""


def load(model_spec: Mapping[str, Any]) -> ImportedModel:
    """The function at the given sizes as relax: arrays and scalars whose values matter are its inputs, what it writes
    its outputs. The model spec then says under `c` how the C function is called. Raises ModelError, or MissingPackage.
    """
    source, wanted = model_spec["source"], model_spec["raising"]
    kind, _, name = source.partition(":")
    path = Path(name)
    if (kind == "mlir") != (path.suffix == MLIR):
        raise ModelError(source, f"{kind}: does not read this file", f"files of {MLIR} are mlir:FILE, others llvm:FILE")
    reply = called(path, "raise", **wanted)
    if "left_alone" in reply:
        where = f"line {reply['line']}: " if reply["line"] else ""
        raise ModelError(source, f"{where}{reply['left_alone']}", "python -m tuner scan FILE tells what is found")
    inputs = tuple(InputSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in reply["inputs"])
    uses = {spec.name: _INTEGERS.to_json() for spec in inputs if spec.dtype.startswith("int")}
    spec = {**model_spec, "uses": uses, "c": {**reply["c"], "path": str(path.resolve())}}
    return ImportedModel(reply["c"]["function"], source, tvm.ir.load_json(reply["module"]), inputs, spec)
