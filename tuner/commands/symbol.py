"""A raised function put back behind its symbol, and checked against the original before anybody may use it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from tuner.baselines.original import FLAGS, PRECISE, build
from tuner.export import c_symbol
from tuner.importers.c_source import compile_original
from tuner.process.limits import for_compilers
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

_CHECK_S = 120.0
_AS_OBJECT = (*FLAGS[PRECISE], "-w", "-fPIC", "-fno-sanitize=undefined", "-c")


def write(folder: Path, model_spec: Mapping[str, Any], threads: int) -> tuple[str, list[str]]:
    """Write the library and the object of a raised function into an export's folder, and compare it with the original.

    Returns why it may not be exported ("" where it may) and sentences for the report. Raises OutputError or ModelError.
    """
    c = model_spec["c"]
    library, item = c_symbol.write(
        folder, c, threads, lambda output: compile_original(c, output, _AS_OBJECT), runtime()
    )
    different, cases = difference(library, model_spec, threads)
    if different:
        return f"it differs from the original: {different}", []
    words = f"{library.name} and {item.name} give what the original gives in {cases} cases (values, sizes, overlaps)"
    return "", [words]


def write_several(folder: Path, model_specs: Mapping[str, Mapping[str, Any]], threads: int) -> tuple[str, list[str]]:
    """The same for a function at several sizes: `model_specs` by the folders of their exports in this one."""
    parts = {f"{name}/model.so": spec["c"] for name, spec in model_specs.items()}
    c = next(iter(parts.values()))
    original = partial(compile_original, c, flags=_AS_OBJECT)
    library, item = c_symbol.write_several(folder, parts, threads, original, runtime())
    cases = 0
    for spec in model_specs.values():
        different, some = difference(library, spec, threads)
        cases += some
        if different:
            sizes = ", ".join(f"{name} {size}" for name, size in spec["c"]["sizes"].items())
            return f"it differs from the original for {sizes}: {different}", []
    words = (
        f"{library.name} and {item.name} choose among {len(parts)} sizes and give what the original gives in {cases}"
    )
    return "", [f"{words} cases"]


def runtime() -> list[Path]:
    """TVM's libraries that a model needs."""
    here = Path(tvm.__file__).parent
    found = [next(here.rglob("libtvm_runtime.so")), Path(tvm_ffi.libinfo.find_libtvm_ffi())]
    return [path.resolve() for path in found]


def difference(library: Path, model_spec: Mapping[str, Any], threads: int) -> tuple[str, int]:
    """The first case in which an exported function differs from the original ("" for none), and how many were tried."""
    exact = not (model_spec["raising"]["allow_reassociation"] or model_spec["c"]["reordered"])
    with tempfile.TemporaryDirectory(prefix="tuner-original-") as scratch:
        original = Path(scratch, "original.so")
        build(model_spec["c"], FLAGS[PRECISE], original)
        settings = {"c": model_spec["c"], "library": str(library), "original": str(original), "exact": exact}
        service = "tuner.baselines.equivalence:EquivalenceWorker"
        try:
            with Child(service, settings, env=thread_env(threads), limits=for_compilers()) as child:
                reply = child.call("check", _CHECK_S, seed=model_spec["seed"])
        except (ChildDied, ChildError, ChildTimeout) as error:
            return f"it cannot be called: {str(error)[:200]}", 0
    return str(reply["different"]), int(reply["cases"])
