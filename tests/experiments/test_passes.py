"""experiments/passes: docs/passes.md is what the code says."""

from __future__ import annotations

import pytest

from experiments.passes import page
from kernels.passes import PASSES


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


def test_settings_are_read_as_words() -> None:
    assert page.settings(PASSES["vector_math"], "llvm") == "on, **off**"
    assert page.settings(PASSES["llvm_opt"], "llvm") == "**3**, 2, 1"
    assert page.settings(PASSES["threads"], "llvm") == "-"
