"""Rules for the whole tree that no linter knows: what is never called, never written, never shadowed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

UNSAFE_MODULES = {"cloudpickle", "cPickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_BUILTINS = {"eval", "exec"}
UNSAFE_CALLS = {
    "builtins.eval",
    "builtins.exec",
    "os.popen",
    "os.system",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "yaml.full_load",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
}
UNSAFE_ARGUMENTS = {"allow_pickle", "shell"}
"""Keyword arguments that must be absent, or plainly False."""

LOADERS = {"CDLL", "LoadLibrary", "PyDLL", "dlopen", "load_module", "load_static_library"}
LOADING = {
    "experiments/verdicts/kernels.py": "kernels that it has just built",
    "kernels/nvrtc.py": "NVRTC, found where packages and the system keep it",
    "tests/kernels/test_amx.py": "instructions emulated in C, that it has just built",
    "tests/tuner/devices/cpu/test_static_model.py": "models that it has just built",
    "tests/tuner/graph/test_graph.py": "a model that it has just built",
    "tests/tuner/commands/test_symbol.py": "a function that it has just built",
    "tuner/baselines/original.py": "the user's own function, that the run file names, and an export of this run",
    "tuner/devices/cuda/simulated/native.py": "the simulated driver, that it has just built, and TVM's own library",
    "tuner/devices/cuda/findings.py": "NVRTC, by names that stand there",
    "tuner/devices/opencl/clblast.py": "clBLAST, found where the system keeps it, in a child that is confined",
    "tuner/doctor/software.py": "a kernel that it has just built",
    "tuner/devices/cpu/account.py": "libraries of this run, an export after `read_manifest`; what it has just built",
    "tuner/devices/cpu/assembly.py": "objects of this run",
    "tuner/devices/cpu/kernel_service.py": "libraries of this run's builder",
    "tuner/measure/compiled_model.py": "libraries of this run; an export comes here after `read_manifest`",
}
"""Files that load native code by a name that is not written in the call, and what it is they load."""

LARGEST_TEXT = 1_000_000
"""Bytes; what is larger is data (a figure, a recorded run) and not written by hand."""


def unsafe(path: str, source: str) -> Iterator[str]:
    """What a file does that this project does not do, as `path:line: what`."""
    for node in ast.walk(ast.parse(source, path)):
        for what in _unsafe(node):
            yield f"{path}:{node.lineno}: {what}"  # type: ignore[attr-defined]


def _unsafe(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {a.name}" for a in node.names if a.name.partition(".")[0] in UNSAFE_MODULES)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if (node.module or "").partition(".")[0] in UNSAFE_MODULES or f"{node.module}.{alias.name}" in UNSAFE_CALLS:
                yield f"from {node.module} import {alias.name}"
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        given = {argument.arg: ast.unparse(argument.value) for argument in node.keywords}
        if name in UNSAFE_BUILTINS | UNSAFE_CALLS:
            yield f"{name}()"
        if name.endswith(".recv") and not node.args and not node.keywords:
            yield f"{name}() of a multiprocessing connection unpickles; use recv_bytes()"
        if name == "torch.load" and given.get("weights_only") != "True":
            yield "torch.load() without weights_only=True"
        yield from (f"{name}({a}={v})" for a, v in given.items() if a in UNSAFE_ARGUMENTS and v != "False")


def loads(path: str, source: str) -> Iterator[str]:
    """Where a file loads native code by a name that is not written there."""
    for node in ast.walk(ast.parse(source, path)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] not in LOADERS:
            continue
        if not (node.args and isinstance(node.args[0], ast.Constant)):
            yield f"{path}:{node.lineno}: {ast.unparse(node)[:80]}"


def tree() -> Iterator[Path]:
    """The files of the project: no build products, nothing hidden except the checks, no results of runs."""
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = sorted(
            name
            for name in folders
            if (not name.startswith(".") or name in (".ci", ".github"))
            and name not in ("__pycache__", "build")
            and not name.endswith(".egg-info")
            and here / name not in map(Path, ("results/runs", "results/models", "results/nightly"))
        )
        yield from (ROOT / here / name for name in sorted(files))


def test_nothing_unsafe_is_called() -> None:
    files = [path for path in tree() if path.suffix == ".py"]
    assert len(files) > 20, "hardly a file was seen: is the scan looking at the right folder?"
    found = [text for f in files for text in unsafe(f.relative_to(ROOT).as_posix(), f.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_native_code_is_loaded_in_known_places() -> None:
    files = {path.relative_to(ROOT).as_posix(): path for path in tree() if path.suffix == ".py"}
    found = {name: list(loads(name, path.read_text("utf-8"))) for name, path in files.items()}
    assert [line for name, lines in found.items() if name not in LOADING for line in lines] == []
    assert [name for name in LOADING if not found.get(name)] == []
    assert list(loads("here.py", "ctypes.CDLL('libcuda.so.1')\nctypes.CDLL(None)")) == []
    assert len(list(loads("here.py", "tvm.runtime.load_module(path)"))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import dill.source as d",
        "from pickle import loads",
        "from os import system",
        "from yaml import load",
        "eval('1')",
        "builtins.exec(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run(line, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "def f():\n    os.system('ls')",
        "self._pipe.recv()",
    ],
)
def test_what_is_unsafe_is_found(source: str) -> None:
    assert len(list(unsafe("here.py", source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "yaml.safe_load(text)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "json.load(file)",
        "pipe.recv_bytes()",
        "socket.recv(4096)",
        "text = 'import pickle'",
    ],
)
def test_what_is_safe_is_left_alone(source: str) -> None:
    assert list(unsafe("here.py", source)) == []


KINDS = {"cuda", "llvm", "opencl", "simulated_cuda", "null"}
"""Names of kinds of devices: what depends on one belongs into its folder, or into the space that depends on it."""


def branches_on_a_kind(path: str, source: str) -> Iterator[str]:
    """Where a file compares something with the name of a kind of device, or looks something up by it."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Compare):
            compared = {c.value for part in (node.left, *node.comparators) for c in _constants(part)}
        elif isinstance(node, ast.Dict):
            compared = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.MatchValue):
            compared = {c.value for c in _constants(node.value)}
        else:
            continue
        if compared & KINDS:
            yield f"{path}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)[:80]}"


def _constants(node: ast.AST) -> Iterator[ast.Constant]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str))


def test_the_kind_of_device_is_asked_in_its_folder_alone() -> None:
    rooms = [path for room in ("tuner", "costmodel") for path in sorted((ROOT / room).rglob("*.py"))]
    outside = [p for p in rooms if not p.relative_to(ROOT).as_posix().startswith("tuner/devices/")]
    assert len(outside) > 50
    found = [b for p in outside for b in branches_on_a_kind(p.relative_to(ROOT).as_posix(), p.read_text("utf-8"))]
    assert found == []
    for source in ("if target.kind == 'cuda': pass", "x = k in ('llvm', 'cuda')", "{'cuda': 1}[kind]"):
        assert len(list(branches_on_a_kind("here.py", source))) == 1
    assert list(branches_on_a_kind("here.py", "words = 'use `target: llvm`'")) == []


MIRRORED = ("commands", "tuning")
"""Rooms in which every module has a test module of its own."""


@pytest.mark.parametrize("room", MIRRORED)
def test_every_module_has_its_mirror(room: str) -> None:
    modules = {path.stem.strip("_") for path in (ROOT / "tuner" / room).glob("*.py")} - {"init"}
    mirrors = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "tuner" / room).glob("test_*.py")}
    assert len(modules) > 5
    assert sorted(modules - mirrors) == []


def test_every_pass_is_documented() -> None:
    page = (ROOT / "docs" / "passes.md").read_text("utf-8")
    files = sorted((ROOT / "kernels" / "passes").glob("*.py"))
    names = [n for f in files for n in re.findall(r'name: ClassVar\[str\] = "(\w+)"', f.read_text("utf-8"))]
    assert len(names) > 5
    assert [name for name in names if f"| `{name}` |" not in page] == []


OF_ONE_MACHINE = re.compile(r"(?<![\w.~])/(?:home|Users)/[A-Za-z0-9]|(?<![\w.~])/root[/]")
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|download\.pytorch)\.org\b")


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tree():
        content = path.read_bytes() if path.stat().st_size <= LARGEST_TEXT else b""
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    return found


def test_no_file_names_a_home_folder() -> None:
    assert lines_with(OF_ONE_MACHINE) == []


def test_no_file_names_a_package_registry() -> None:
    assert lines_with(REGISTRY) == []


def test_the_patterns_find_what_they_are_for() -> None:
    home = "/" + "home"
    assert OF_ONE_MACHINE.search(f"open('{home}/someone/file')")
    assert OF_ONE_MACHINE.search("cd /" + "root/project")
    assert not OF_ONE_MACHINE.search(f"see example.com{home}/page and src/root/x")
    assert REGISTRY.search("--index-url https://" + "pypi" + ".org/simple")


@pytest.mark.slow
def test_transformers_works_beside_our_kernels() -> None:
    """A package that transformers looks for has the import name of our `kernels/`: it must not be taken for it."""
    pytest.importorskip("transformers", reason="the extra `torch` is not installed")
    script = (
        "import kernels, sys\n"
        "from transformers import BertConfig, BertModel\n"
        "from transformers.utils import is_kernels_available\n"
        "import transformers.integrations.hub_kernels\n"
        "BertModel(BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))\n"
        "assert not is_kernels_available()\n"
        "assert kernels.__file__ == sys.argv[1], kernels.__file__\n"
    )
    ours = str(ROOT / "kernels" / "__init__.py")
    done = subprocess.run([sys.executable, "-c", script, ours], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
