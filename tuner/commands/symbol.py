"""A raised function put back behind its symbol, and checked against the original before anybody may use it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tvm
import tvm_ffi

from kernels.nests.memory import marker
from tuner.baselines.original import FAST, FLAGS, PRECISE, build, flags_of
from tuner.export import c_symbol
from tuner.graph.in_place import in_place
from tuner.importers import input_sets
from tuner.importers.c_source import compile_original
from tuner.measure.comparison import BenchmarkEntry, compare_interleaved
from tuner.measure.entries import EntrySpec, prepare, store
from tuner.process.limits import for_compilers
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Array
from tuner.records import Label
from tuner.tuning.total import Phase

if TYPE_CHECKING:
    from tuner.commands.prepare import RunContext
    from tuner.devices.device import Assembly
    from tuner.graph import Lowered
    from tuner.models import ImportedModel

_CHECK_S = 300.0
_AS_OBJECT = (*FLAGS[PRECISE], "-w", "-fPIC", "-fno-sanitize=undefined", "-c")


_ROUNDS = 10
_SHARE = 8
"""The function behind its symbol is timed for this part of the time that whole models are."""

BEHIND_SYMBOL = "with its guard and copies the function takes"
"""How the sentence begins that says how fast an exported function is."""

_EXPORTED = "exported"
"""What the function with its guard and copies is called where it is timed."""


def has_one(model: ImportedModel, assembly: Assembly) -> bool:
    """Whether a model is a function that can be put back behind its symbol: one of a C program, on a CPU."""
    return "c" in model.model_spec and assembly.runtime == "cpu"


def put_behind(
    run: RunContext, model: ImportedModel, graph: Lowered, parts: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """Put a raised function behind its symbol in the export that a run makes, check it and time it.

    Returns why it may not be exported ("" where it may) and sentences for the report. Raises OutputError or ModelError.
    """
    spec, threads, folder = model.model_spec, run.target.threads, run.work / "export"
    run.progress.phase("putting the function back behind its symbol")
    why_not, words = write(folder, spec, threads, overwritten(graph, parts, spec))
    if why_not or run.interrupted():
        return why_not, words
    run.progress.phase("timing the function behind its symbol")
    [inputs, *_] = input_sets(model.inputs, spec, run.config.search.seed)
    seconds = run.total.allowed_s(Phase.COMPARISON, run.settings.compare_s / _SHARE)
    library = folder / f"lib{spec['c']['function']}.so"
    why_not, sentence = slower(library, spec, threads, inputs.arrays, seconds, run.work)
    return why_not, [*words, *([sentence] if sentence else [])]


def write(
    folder: Path, model_spec: Mapping[str, Any], threads: int, overwritten: Sequence[int] = ()
) -> tuple[str, list[str]]:
    """Write the library and the object of a raised function into an export's folder, and compare it with the original.

    `overwritten`: the arguments that the model may overwrite. Returns why it may not be exported ("" where it may) and
    sentences for the report. Raises OutputError or ModelError.
    """
    c = {**model_spec["c"], c_symbol.IN_PLACE: list(overwritten)}
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
    parts = {}
    for name, spec in model_specs.items():
        text = folder / name / f"{spec['c']['function']}.c"
        overwritten = c_symbol.overwritten_in(text) if text.exists() else []
        parts[f"{name}/model.so"] = {**spec["c"], c_symbol.IN_PLACE: overwritten}
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


def overwritten(graph: Lowered, parts: Mapping[str, Any], model_spec: Mapping[str, Any]) -> list[int]:
    """The arguments of a raised function that its model may overwrite. `parts`: of the model, by the tasks' keys."""
    c = model_spec["c"]
    found = []
    for (given, written), kernel in in_place(graph).items():
        position = c["inputs"][given]["position"]
        part = parts.get(graph.kernels.get(kernel, ""))
        if part is not None and c["outputs"][written]["position"] == position and _keeps_in_place(*part):
            found.append(position)
    return found


def _keeps_in_place(entry: str, item: Path) -> bool:
    """Whether a kernel's object says that it leaves alone what it keeps."""
    program = shutil.which("nm")
    if program is None:
        return False
    listed = subprocess.run([program, str(item)], capture_output=True, text=True).stdout
    return any(line.split()[-1:] == [marker(entry)] for line in listed.splitlines())


def slower(
    library: Path, model_spec: Mapping[str, Any], threads: int, inputs: Sequence[Array], seconds: float, work: Path
) -> tuple[str, str]:
    """Time an exported function, guard and copies and all, beside the original.

    Returns why it may not be exported ("" where it may), and a sentence for the report.
    """
    c, flags = model_spec["c"], flags_of(model_spec["c"]["function"], may_reorder(model_spec))
    worker = "tuner.baselines.original:OriginalWorker"
    specs = [EntrySpec(_EXPORTED, worker, {"c": c, "flags": [], "library": str(library)})]
    specs += [EntrySpec(name, worker, {"c": c, "flags": flags[name]}) for name in (PRECISE, FAST) if name in flags]
    stored = store(inputs, work / "exported-inputs.npz")
    with ExitStack() as stack:
        entries = []
        for spec in specs:
            child = stack.enter_context(Child(spec.service, spec.settings, env=thread_env(threads)))
            try:
                prepare(child, stored, work / "exported-outputs.npz")
            except (ChildDied, ChildError, ChildTimeout) as error:
                if spec.name in (_EXPORTED, PRECISE):
                    return f"it cannot be timed: {str(error)[:200]}", ""
                continue
            entries.append(BenchmarkEntry(spec.name, child))
        result = compare_interleaved(entries, min_rounds=_ROUNDS, time_budget_s=seconds)
    said = []
    for entry in entries[1:]:
        verdict = result.verdict(_EXPORTED, entry.name)
        if verdict.label is Label.SLOWER:
            return f"{BEHIND_SYMBOL} {verdict.ratio:.2f} of the time of {entry.name}", ""
        if verdict.ratio is not None:
            said.append(f"{verdict.ratio:.3f} of the time of {entry.name} ({verdict.label})")
    if not said:
        return "", "the function behind its symbol could not be timed beside the original"
    return "", f"{BEHIND_SYMBOL} {' and '.join(said)}"


def may_reorder(model_spec: Mapping[str, Any]) -> bool:
    """Whether sums of the function are computed in another order."""
    return bool(model_spec["raising"]["allow_reassociation"] or model_spec["c"]["reordered"])


def runtime() -> list[Path]:
    """TVM's libraries that a model needs."""
    here = Path(tvm.__file__).parent
    found = [next(here.rglob("libtvm_runtime.so")), Path(tvm_ffi.libinfo.find_libtvm_ffi())]
    return [path.resolve() for path in found]


def difference(library: Path, model_spec: Mapping[str, Any], threads: int) -> tuple[str, int]:
    """The first case in which an exported function differs from the original ("" for none), and how many were tried."""
    exact = not may_reorder(model_spec)
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
