"""The one direction of imports, read from the source: docs/design.md draws it.

Imports inside functions count, and so do `importlib.import_module("...")` and imports for type checkers.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("kernels", "costmodel", "tuner", "experiments", "tests")

GROUND_FLOOR = {
    "kernels": {"islpy", "llvmlite", "numpy", "tvm", "tvm_ffi", "xdsl"},
    "costmodel": {"numpy", "scipy", "xgboost"},
}
"""Rooms that see nothing of ours but themselves, with the packages they may use."""

FLOORS = (
    ("errors",),
    (
        "records",
        "caveats",
        "nights",
        "schema",
        "environment",
        "files",
        "metrics",
        "models",
        "outputs",
        "precisions",
        "progress",
        "protocols",
        "strict_yaml",
    ),
    ("process",),
    ("config", "search", "measure", "graph", "bundle", "store", "report", "importers", "export"),
    ("baselines",),
    ("simulate",),
    ("devices",),
    ("doctor",),
    ("tuning",),
    ("commands",),
    ("nightly",),
    ("site",),
    ("cli",),
    ("__main__",),
)
"""Inside tuner: a room sees the floors below its own."""
RANK = {room: rank for rank, rooms in enumerate(FLOORS) for room in rooms}
TALKING = {RANK["records"]}
"""Floors whose rooms may see one another (without cycles); the rooms of the others are blind to one another."""

SERVICE = re.compile(r"((?:tuner|kernels|costmodel|experiments|tests)(?:\.\w+)+):(\w+)")
"""A service that a child process is to import, by name. It counts as an import of its module."""

HOMES = {
    "MNN": ("tuner/baselines/mnn.py",),
    "islpy": ("kernels/nests/dependences.py", "kernels/raising/polyhedra.py"),
    "jinja2": ("tuner/report/", "tuner/site/"),
    "llvmlite": ("kernels/raising/ir.py",),
    "matplotlib": ("tuner/report/",),
    "ncnn": ("tuner/baselines/ncnn.py",),
    "onnx": ("tuner/importers/",),
    "onnxruntime": (
        "tuner/baselines/exact_nodes.py",
        "tuner/baselines/onnxruntime.py",
        "tuner/importers/onnx_answers.py",
        "tuner/importers/onnx_half.py",
        "tuner/importers/onnx_quantizer.py",
        "tuner/measure/onnx_values.py",
        "tuner/measure/pipeline.py",
    ),
    "openvino": ("tuner/baselines/openvino.py",),
    "optuna": ("tuner/search/optuna.py",),
    "pandas": ("tuner/report/",),
    "pycuda": ("tuner/devices/cuda/driver.py",),
    "pynvml": ("tuner/devices/cuda/nvml.py",),
    "pyopencl": ("tuner/devices/opencl/",),
    "ruptures": ("tuner/nightly/statistics.py",),
    "sqlalchemy": ("tuner/store/",),
    "xdsl": ("kernels/raising/mlir/",),
    "torch": (
        "tuner/baselines/kernels.py",
        "tuner/baselines/exact.py",
        "tuner/baselines/layerwise.py",
        "tuner/baselines/torch.py",
        "tuner/devices/cuda/torch_services.py",
        "tuner/devices/cuda/torch_settings.py",
        "tuner/importers/onnx_in_torch.py",
        "tuner/importers/onnx_operators",
        "tuner/importers/torch",
        "tuner/importers/pytorch",
    ),
    "transformers": ("tuner/importers/",),
    "xgboost": ("costmodel/xgb.py",),
    "yaml": ("tuner/strict_yaml.py",),
}
"""Heavy or optional packages, and the only places that may import them."""


@dataclass(frozen=True)
class Import:
    """One import: where it stands, the full name it wants, and whether only a type checker runs it."""

    path: str
    line: int
    name: str
    typing_only: bool

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: imports {self.name}"


def module_of(path: str) -> str:
    """`tuner/search/__init__.py` -> `tuner.search`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: str, source: str, modules: Iterable[str]) -> Iterator[Import]:
    """Every import of a file, services named by strings included.

    `from package import module` names the module where `modules` has it.
    """
    known = set(modules)
    tree = ast.parse(source, path)
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_type_checking(node)]
    guarded = {id(n) for branch in branches for statement in branch.body for n in ast.walk(statement)}
    for node in ast.walk(tree):
        for name in dict.fromkeys(_names(node, path, known)):
            yield Import(path, getattr(node, "lineno", 0), name, id(node) in guarded)


def _is_type_checking(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _names(node: ast.AST, path: str, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = path.rpartition("/")[0].split("/")
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full in known or (base == "tuner" and alias.name in RANK) else base
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
        yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (named := SERVICE.fullmatch(node.value)):
        yield named[1]


def violation(found: Import) -> str | None:
    """Why an import may not stand where it stands, or None."""
    home = module_of(found.path)
    own = home.partition(".")[0]
    allowed = HOMES.get(found.package)
    if allowed and not found.typing_only and not found.path.startswith(allowed):
        return f"{found}; {found.package} belongs in {', '.join(allowed)}"
    if own in GROUND_FLOOR:
        if found.package == own or found.package in GROUND_FLOOR[own] or found.package in sys.stdlib_module_names:
            return None
        return f"{found}; {own} may see only itself, {', '.join(sorted(GROUND_FLOOR[own]))} and the standard library"
    if found.package in ("experiments", "tests"):
        return f"{found}; nobody imports {found.package}"
    if found.package != "tuner" or found.name == "tuner":
        return None
    return _between_rooms(found, home)


def _between_rooms(found: Import, home: str) -> str | None:
    if home == "tuner":
        return f"{found}; `import tuner` imports nothing"
    own_room, room = home.split(".")[1], found.name.split(".")[1]
    for name in (own_room, room):
        if name not in RANK:
            return f"{found}; tuner.{name} has no floor: give it one in {Path(__file__).name} and in docs/design.md"
    if room == own_room or RANK[room] < RANK[own_room]:
        return None
    if RANK[room] > RANK[own_room]:
        return f"{found}; tuner.{room} is above tuner.{own_room}"
    return None if RANK[room] in TALKING else f"{found}; tuner.{room} and tuner.{own_room} are blind to each other"


def cycle(edges: dict[str, set[str]]) -> list[str] | None:
    """Some cycle among modules, or None."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        for target in sorted(edges.get(module, ())):
            if found := visit(target, [*trail, module]):
                return found
        done.add(module)
        return None

    return next((found for module in sorted(edges) if (found := visit(module, []))), None)


def all_imports() -> list[Import]:
    files = [f for room in ("kernels", "costmodel", "tuner") for f in sorted((ROOT / room).rglob("*.py"))]
    paths = {file.relative_to(ROOT).as_posix(): file for file in files}
    modules = [module_of(path) for path in paths]
    return [found for path, file in paths.items() for found in imports(path, file.read_text("utf-8"), modules)]


def test_every_import_points_down() -> None:
    found = all_imports()
    assert len(found) > 50, "hardly an import was seen: is the scan looking at the right folders?"
    wrong = [text for text in map(violation, found) if text]
    assert not wrong, "\n".join(wrong)


OF_ONE_KIND = {
    "tuner/cli/commands.py": "tuner.devices.cpu.machine",
    "tuner/doctor/software.py": "tuner.devices.cpu.codegen",
}
"""Who may import from the folder of one kind of device, and what: `machine` and the linker are of this machine."""


def test_a_device_is_named_in_one_table() -> None:
    """A kind's folder is known to itself and to `devices.resolve`: a new device is a folder and a line."""
    wrong = []
    for found in all_imports():
        kind = re.match(r"tuner\.devices\.(cpu|cuda|opencl)\b", found.name)
        if kind is None or found.path.startswith((f"tuner/devices/{kind[1]}/", "tuner/devices/resolve.py")):
            continue
        if not found.name.startswith(OF_ONE_KIND.get(found.path, "nothing")):
            wrong.append(str(found))
    assert wrong == []


def test_every_service_that_is_named_exists() -> None:
    files = [f for room in ("tuner", "experiments", "tests") for f in sorted((ROOT / room).rglob("*.py"))]
    named = {
        (found[1], found[2], file.relative_to(ROOT).as_posix())
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := SERVICE.fullmatch(node.value))
    }
    assert len(named) > 20
    missing = []
    for module, name, where in sorted(named):
        path = ROOT / (module.replace(".", "/") + ".py")
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        source = path.read_text("utf-8") if path.exists() else ""
        if not re.search(rf"^(?:class |def |){name}\b", source, re.MULTILINE):
            missing.append(f"{where}: {module}:{name}")
    assert missing == []


def test_no_cycles() -> None:
    edges: dict[str, set[str]] = {}
    for found in all_imports():
        if found.package in OURS and found.name != module_of(found.path):
            edges.setdefault(module_of(found.path), set()).add(found.name)
    assert cycle(edges) is None


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("kernels/space.py", "import tuner.errors", "kernels may see only itself"),
        ("kernels/space.py", "def f():\n    from costmodel import xgb", "space.py:2"),
        ("kernels/space.py", "import scipy", "kernels may see only itself"),
        ("kernels/passes/unroll.py", "from ...tuner import errors", "kernels may see only itself"),
        ("costmodel/base.py", "import tvm", "costmodel may see only itself"),
        ("costmodel/base.py", "import xgboost", "belongs in costmodel/xgb.py"),
        ("tuner/errors.py", "from tuner.records import Record", "tuner.records is above tuner.errors"),
        ("tuner/errors.py", "from tuner import records", "tuner.records is above tuner.errors"),
        ("tuner/errors.py", "from . import records", "tuner.records is above tuner.errors"),
        ("tuner/search/base.py", "from ..tuning.session import Session", "tuner.tuning is above tuner.search"),
        ("tuner/measure/stats.py", "NAME = 'tuner.devices.cpu.x:Y'", "tuner.devices is above tuner.measure"),
        ("tuner/store.py", "import importlib\nimportlib.import_module('tuner.cli')", "store.py:2"),
        (
            "tuner/bundle/archive.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tuner.measure import stats",
            "tuner.measure and tuner.bundle are blind to each other",
        ),
        ("tuner/cli/commands.py", "import tests.conftest", "nobody imports tests"),
        ("tuner/odd.py", "import tuner.errors", "tuner.odd has no floor"),
        ("tuner/cli/commands.py", "import tuner.odd", "tuner.odd has no floor"),
        ("tuner/__init__.py", "from tuner.cli import main", "imports nothing"),
        ("tuner/search/guided.py", "def f():\n    import optuna.samplers", "belongs in tuner/search/optuna.py"),
        ("tuner/graph/clean.py", "from torch import nn", "belongs in tuner/baselines/kernels.py"),
        ("tuner/devices/cpu/runner.py", "__import__('pycuda')", "belongs in tuner/devices/cuda/driver.py"),
    ],
)
def test_a_line_that_breaks_the_order_is_named(path: str, source: str, words: str) -> None:
    wrong = [text for text in map(violation, imports(path, source, [])) if text]
    assert len(wrong) == 1
    assert words in wrong[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kernels/space.py", "import json, tvm.s_tir\nfrom kernels.passes import base\nfrom . import workload"),
        ("costmodel/xgb.py", "import numpy as np\nimport xgboost\nfrom costmodel.base import CostModel"),
        ("tuner/protocols.py", "from tuner.records import Record\nfrom kernels.space import Candidate"),
        ("tuner/search/optuna.py", "import optuna\nfrom tuner.search.base import Base\nfrom tuner import errors"),
        ("tuner/devices/builder.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("tuner/cli/commands.py", "from tuner import __version__\nfrom tuner.commands.run import run"),
    ],
)
def test_what_points_down_is_left_alone(path: str, source: str) -> None:
    assert [text for text in map(violation, imports(path, source, [])) if text] == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) is None
