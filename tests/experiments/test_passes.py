"""experiments/passes: docs/passes.md is what the code says, and a wrong pass is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import tvm

from experiments.passes import check, page, run
from experiments.passes.families import workload
from kernels import examples, reference
from kernels.passes import PASSES
from kernels.space import Candidate, generate
from kernels.workload import seeded_inputs
from tests.kernels.dot_targets import needs_dots, with_dots
from tests.kernels.programs import llvm


def test_the_pages_of_passes_are_current() -> None:
    text = page.DOCUMENT.read_text("utf-8")
    assert page.written(text) == text, "run: python experiments/passes/page.py"


def test_a_document_without_the_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the line"):
        page.written("# Passes")


def test_a_measured_effect_stands_on_the_page() -> None:
    row = {
        "family": "softmax", "setting": "vector_math{on=1}",
        "alone": {"times": 2.0, "low": 1.9, "high": 2.1}, "in_all": None,
    }  # fmt: skip
    lines = list(page.effect("vector_math", {"machine": {"passes": {"vector_math": [row]}}}))
    assert lines[-1] == "| machine | softmax | `vector_math{on=1}` | 2.00 (1.90 to 2.10) | - |"
    assert list(page.effect("unroll", {})) == ["- Effect: not measured."]


def test_the_largest_sure_effects_are_shown() -> None:
    def row(times: float, wide: float = 0.01) -> dict[str, object]:
        ratio = {"times": times, "low": times - wide, "high": times + wide}
        return {"family": f"k{times}", "setting": "", "alone": ratio, "in_all": None}

    rows = [row(1.0 + n / 10) for n in range(-5, 10)] + [row(9.0, wide=8.5)]
    shown = [found["family"] for _, found in page.largest([("m", one) for one in rows])]
    assert shown == ["k1.9", "k1.8", "k1.7", "k1.6", "k0.8", "k0.7", "k0.6", "k0.5"]


def test_every_searched_setting_has_a_contrast_that_differs_in_it_alone() -> None:
    found = run.contrasts(Candidate(0))
    assert {contrast.setting.name for contrast in found} == {kind.name for kind in run.searched()}
    for contrast in found:
        for with_it, without in filter(None, (contrast.alone, contrast.in_all)):
            differ = set(with_it.passes.settings) ^ set(without.passes.settings)
            assert {setting.name for setting in differ} == {contrast.setting.name}


def test_machine_code_is_told_apart_without_names(tmp_path: Path) -> None:
    sections = []
    for name in ("one", "another"):
        function = examples.products().with_attr("global_symbol", name)
        tvm.compile(tvm.IRModule({name: function}), llvm()).mod.write_to_file(str(tmp_path / "kernel.o"))
        sections.append(list(run.executable_sections((tmp_path / "kernel.o").read_bytes())))
    assert sections[0] == sections[1] != []


def test_settings_are_read_as_words() -> None:
    assert page.settings(PASSES["vector_math"], "llvm") == "on, **off**"
    assert page.settings(PASSES["llvm_opt"], "llvm") == "**3**, 2, 1"
    assert page.settings(PASSES["threads"], "llvm") == "-"


QUICK = ("product", "chain", "softmax", "column maxima")
"""Families whose spaces are made in a twentieth of a second."""


REWRITES = {
    "vector_math": ("chain",),
    "threads": ("product", "chain", "transpose"),
    "bounds": ("lower triangle", "causal maxima"),
    "balance": ("causal maxima",),
    "borders": ("kept border",),
}
NARROW = ("bfloat16 product", "byte product")


@pytest.mark.parametrize("name", [n for n in check.searched_on_cpu() if n not in (*REWRITES, "tensorize")])
def test_a_pass_is_right_on_a_random_program(name: str) -> None:
    found = check.check(name, 1, 4, llvm(), QUICK)
    assert found.programs == 1
    assert found.wrong == []


@pytest.mark.parametrize("name", REWRITES)
def test_a_pass_that_rewrites_is_right_on_random_programs_and_its_sabotages_are_seen(name: str) -> None:
    found = check.check(name, 3, 1, llvm(), REWRITES[name])
    assert found.wrong == []
    assert found.sabotaged == 3
    assert found.seen >= 2, found.unseen


@needs_dots
def test_dot_products_are_right_on_random_programs_and_sabotages_are_seen() -> None:
    found = check.check("tensorize", 2, 1, with_dots(), NARROW)
    assert (found.programs, found.wrong, found.sabotaged) == (2, [], 2)
    assert found.seen >= 1, found.unseen


def test_a_check_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    assert check.kept(path, 0, 300) == {}
    path.write_text('{"seed": 0, "asked": 300, "passes": {"lanes": {"programs": 300}}}')
    assert check.kept(path, 0, 300) == {"lanes": {"programs": 300}}
    assert check.kept(path, 1, 300) == check.kept(path, 0, 20) == {}, "those were other programs"


def test_an_empty_program_is_checked_too() -> None:
    empty = workload("product", (0, 3, 3))
    assert generate(empty, llvm()).sketches
    [output] = reference.evaluate(empty.module()["main"], seeded_inputs(empty.inputs, 0))
    assert output.shape == (0, 3)
