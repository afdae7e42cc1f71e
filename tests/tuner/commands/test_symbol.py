"""A raised function behind its own symbol: it answers as the original does, and is refused where it does not."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from tuner.baselines.original import build
from tuner.commands import symbol
from tuner.commands.prepare import lowered
from tuner.commands.whole_model import assembled, export
from tuner.config import ModelConfig, RunConfig
from tuner.devices import resolve
from tuner.export import c_symbol
from tuner.importers.c_source import compiled
from tuner.progress import Progress

CODE = """
static int helper(int i) { return i; }
void product(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] * B[k * n + j];
    C[i * n + j] += s;
  }
}
int other(int i) { return helper(i) + 1; }
void added(int n, const float *x, float *y) { for (int i = 0; i < n; i++) y[i] += x[i]; }
void overlap(int n, const float *x, float *y) { for (int i = 1; i < n - 1; i++) y[i] = x[i - 1] + x[i + 1]; }
"""
N = 24


def model_of(here: Path, n: int, function: str = "product") -> dict[str, Any]:
    """Export a function for one size, untuned, and return the model spec."""
    here.mkdir(exist_ok=True)
    file = here / "product.c"
    file.write_text(CODE)
    source = f"llvm:{file}"
    config = RunConfig(ModelConfig(source, function=function, sizes={"n": n}, allow_reassociation=True))
    target = resolve.resolve(config.target)
    model, [choices] = lowered(config, target, Progress())
    assembly = resolve.kind_of(target).assembly(target)
    export(model, choices.lowered, assembled(model, choices.lowered, assembly, {}), here, target, {}, assembly)
    return dict(model.model_spec)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An export's folder with the function, untuned, and the model spec."""
    here = tmp_path_factory.mktemp("symbol")
    model_spec = model_of(here, N)
    why, words = symbol.write(here / "export", model_spec, 2)
    assert why == ""
    assert "libproduct.so" in words[0]
    return here / "export", model_spec


def test_the_library_takes_the_originals_place(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = exported
    function = ctypes.CDLL(str(folder / "libproduct.so")).product
    function.restype = None
    rng = np.random.default_rng(0)
    for n in (N, 5):  # the tuned kernel, and the original
        a, b, c = (rng.standard_normal((n, n)).astype(np.float32) for _ in range(3))
        wanted = c + a @ b
        function(ctypes.c_int(n), *(ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)))
        np.testing.assert_allclose(c, wanted, rtol=1e-4, atol=1e-4)


def test_the_object_can_be_linked_into_a_program(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = exported
    symbols = subprocess.run(["nm", "product.o"], cwd=folder, capture_output=True, text=True).stdout
    defined = {line.split()[2] for line in symbols.splitlines() if line.split()[-2] == "T"}
    assert defined == {"product", "product__original"}  # nothing else of the file: `other` stays the program's own
    (folder / "main.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\nvoid product(int, float*, float*, float*);\n"
        "int other(int i) { return i; }\n"
        f"int main(void) {{ int n = {N}; float *x = calloc(3 * n * n, 4);\n"
        "for (int i = 0; i < 2 * n * n; i++) x[i] = 1; product(n, x, x + n * n, x + 2 * n * n);\n"
        'printf("%g %d", x[2 * n * n + 7], other(3)); return 0; }\n'
    )
    libraries = [f"-Wl,-rpath,{path.parent}" for path in symbol.runtime()] + [str(p) for p in symbol.runtime()]
    command = ["cc", "main.c", "product.o", "model.so", "-Wl,-rpath,.", *libraries, "-lm", "-o", "program"]
    linked = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr
    done = subprocess.run(["./program"], cwd=folder, capture_output=True, text=True)
    assert done.stdout == f"{N} 3"


def test_a_process_that_is_forked_after_a_call_has_the_original(exported: tuple[Path, dict[str, Any]]) -> None:
    """With the model it would wait for ever for threads that it does not have."""
    folder, _ = exported
    (folder / "forks.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
        "void product(int, float*, float*, float*);\n"
        f"int main(void) {{ int n = {N}, state = 0; float *x = calloc(3 * n * n, 4);\n"
        "for (int i = 0; i < 2 * n * n; i++) x[i] = 1; product(n, x, x + n * n, x + 2 * n * n);\n"
        "if (fork() == 0) { alarm(20); product(n, x, x + n * n, x + 2 * n * n); _exit((int)x[2 * n * n + 7]); }\n"
        'wait(&state); printf("%d", WIFEXITED(state) ? WEXITSTATUS(state) : -1); return 0; }\n'
    )
    command = ["cc", "forks.c", "-L.", "-lproduct", "-Wl,-rpath,.", "-o", "forks"]
    linked = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr
    done = subprocess.run(["./forks"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stdout == str(2 * N)
    text = (folder / "product.c").read_text()
    assert "if (forked || " in text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A[i * n + k] * B", "A[i * n + k] + B"),
        ("C[i * n + j] += s", "C[i * n + j] = s"),
        ("i = 0; i < n; i++) for", "i = 0; i < n - (n == 24); i++) for"),
        ("float s = 0", "float s = n == 7"),
        ("float s = 0", "float s = A[0] == 0 ? 1e-2f : 0"),
    ],
)
def test_what_differs_from_the_original_is_found(
    before: str, after: str, exported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, spec = exported
    changed = tmp_path / "changed.c"
    changed.write_text(CODE.replace(before, after))
    build({**spec["c"], "path": str(changed)}, ["-O1"], tmp_path / "changed.so")
    different, _ = symbol.difference(tmp_path / "changed.so", spec, 1)
    assert different


def test_a_library_that_crashes_is_refused(exported: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, spec = exported
    broken = tmp_path / "broken.c"
    broken.write_text("void product(int n, float *A, float *B, float *C) { *(volatile int *)8 = n; }\n")
    build({**spec["c"], "path": str(broken)}, ["-O1"], tmp_path / "broken.so")
    different, cases = symbol.difference(tmp_path / "broken.so", spec, 1)
    assert different.startswith("it cannot be called")
    assert cases == 0


def test_sizes_choose_among_models(exported: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, spec = exported
    specs = {f"n-{N}": spec, "n-17": model_of(tmp_path / "n-17", 17)}
    shutil.copytree(folder, tmp_path / f"n-{N}")
    shutil.copytree(tmp_path / "n-17" / "export", tmp_path / "n-17", dirs_exist_ok=True)
    why, words = symbol.write_several(tmp_path, specs, 2)
    assert (why, "2 sizes" in words[0]) == ("", True)
    subtracts = tmp_path / "subtracts.c"
    subtracts.write_text(CODE.replace("C[i * n + j] += s", "C[i * n + j] -= s"))

    def another(output: Path) -> None:
        compiled(subtracts, output, ["-O1", "-w", "-fPIC", "-c"])

    parts = {f"{name}/model.so": one["c"] for name, one in specs.items()}
    (tmp_path / "libproduct.so").unlink()
    library, _ = c_symbol.write_several(tmp_path, parts, 2, another, symbol.runtime())
    function = ctypes.CDLL(str(library)).product
    function.restype = None
    rng = np.random.default_rng(0)
    for n, sign in ((N, 1), (17, 1), (5, -1), (0, -1)):  # what the models say, and what the original does
        a, b, c = (rng.standard_normal((n, n)).astype(np.float32) for _ in range(3))
        wanted = c + sign * (a @ b)
        function(ctypes.c_int(n), *(ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)))
        np.testing.assert_allclose(c, wanted, rtol=1e-4, atol=1e-4)


def test_a_model_that_is_missing_leaves_the_original(exported: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, spec = exported
    why, _ = symbol.write_several(tmp_path, {"gone": spec}, 2)
    assert why == ""


def timed(here: Path, spec: dict[str, Any]) -> tuple[str, str]:
    inputs = [np.ones(t["shape"], t["dtype"]) for t in spec["c"]["inputs"]]
    library = here / "export" / f"lib{spec['c']['function']}.so"
    return symbol.slower(library, spec, 1, inputs, 1.0, here)


def test_a_function_that_is_slower_than_the_original_is_refused(tmp_path: Path) -> None:
    """Copies of what is read and written take longer than its additions."""
    spec = model_of(tmp_path, 60_000, "added")
    assert symbol.write(tmp_path / "export", spec, 1)[0] == ""
    why, said = timed(tmp_path, spec)
    assert "with its guard and copies the function takes" in why, said


def test_a_function_may_have_a_name_that_the_guard_uses_itself(tmp_path: Path) -> None:
    spec = model_of(tmp_path, 40, "overlap")
    assert symbol.write(tmp_path / "export", spec, 1)[0] == ""
