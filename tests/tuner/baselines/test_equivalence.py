"""Whether every way is tried in which an exported function may differ from the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from tuner.baselines.equivalence import EquivalenceWorker
from tuner.baselines.original import build
from tuner.commands import symbol
from tuner.commands.prepare import imported
from tuner.config import ModelConfig, RunConfig

CODE = """#include <stdint.h>
void blended(int m, int n, const float *x, const float *w, float *y) {
  for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) y[i * n + j] = x[i * n + j] * w[j];
}
"""
_LOOPS = "for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) y[i * n + j] = x[i * n + j] * w[j];"

SABOTAGES = {
    "one size is not looked at": "if (n == 12) m = 20;",
    "the other size is not looked at": "if (m == 20 && n > 12) n = 12;",
    "larger sizes are cut off": "if (m > 20) m = 20;",
    "an odd size is wrong": "if (m == 13) m = 12;",
    "a prime is wrong": "if (m == 7) m = 6;",
    "a size of one is wrong": "if (m == 1) return;",
    "nothing is something": "if (m == 0) y[0] = 1;",
    "an argument is read too early": "float s[9000]; for (int i = 0; i < m * n; i++) s[i] = x[i]; x = s;",
    "another argument is read too early": "float s[9000]; for (int i = 0; i < n; i++) s[i] = w[i]; w = s;",
    "arrays that are not aligned": "if ((uintptr_t)x % 64) m--;",
    "a result that is not aligned": "if ((uintptr_t)y % 64) m--;",
    "NaNs are lost": "for (int i = 0; i < m * n; i++) if (x[i] != x[i]) m = 0;",
    "infinities are lost": "for (int i = 0; i < m * n; i++) if (x[i] > 1e38f) m = 0;",
    "large values are lost": "for (int i = 0; i < m * n; i++) if (x[i] > 1e4f && x[i] < 1e38f) m = 0;",
    "zeros": "if (m && x[0] == 0 && x[1] == 0) m = 0;",
}
"""Statements before the loops: each is seen by one kind of call alone, or by few."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("original") / "blended.c"
    file.write_text(CODE)
    return dict(
        imported(RunConfig(ModelConfig(f"llvm:{file}", function="blended", sizes={"m": 20, "n": 12}))).model_spec
    )


def test_sizes_are_tried_that_are_one_odd_prime_and_larger_and_each_alone(spec: dict[str, Any]) -> None:
    tried = [tuple(other["sizes"].values()) for other in spec["c"]["others"]]
    assert {(23, 13), (21, 12), (19, 12), (20, 13), (20, 11), (1, 1), (2, 2), (3, 3), (7, 7), (13, 12)} == set(tried)
    assert {tuple(o["sizes"].values()): dict(map(tuple, o["elements"])) for o in spec["c"]["others"]}[23, 13] == {
        2: 23 * 13, 3: 13, 4: 23 * 13,
    }  # fmt: skip


@pytest.fixture(scope="module")
def libraries(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One with all sabotaged functions, `sabotage0` and so on, and the original."""
    here = tmp_path_factory.mktemp("libraries")
    file = here / "changed.c"
    bodies = [CODE.replace(_LOOPS, statement + _LOOPS) for statement in SABOTAGES.values()]
    file.write_text("\n".join(body.replace("blended", f"sabotage{n}") for n, body in enumerate(bodies)))
    build({**spec["c"], "path": str(file)}, ["-O1"], here / "changed.so")
    build(spec["c"], ["-O1"], here / "original.so")
    return here / "changed.so", here / "original.so"


def test_the_original_is_equal_to_itself(spec: dict[str, Any], libraries: tuple[Path, Path]) -> None:
    different, cases = symbol.difference(libraries[1], spec, 1)
    assert (different, cases) == ("", 7 + 1 + 10 + 4)  # values, no size, other sizes, overlaps


@pytest.mark.parametrize("number", range(len(SABOTAGES)), ids=list(SABOTAGES))
def test_each_sabotage_is_seen(number: int, spec: dict[str, Any], libraries: tuple[Path, Path]) -> None:
    changed, original = map(str, libraries)
    worker = EquivalenceWorker(spec["c"], changed, original, True, f"sabotage{number}")
    assert worker.op_check(spec["seed"])["different"]
