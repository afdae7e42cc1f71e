"""What is told of a library's code: instructions, vectors, and a hash that placement does not move."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tuner.nightly import structure
from tuner.nightly.structure import Structure, is_vector

needs_tools = pytest.mark.skipif(
    shutil.which("objdump") is None or shutil.which("gcc") is None or platform.machine() != "x86_64",
    reason="needs gcc and objdump on x86",
)
SUM = "float total(const float* a, int n) { float s = 0; for (int i = 0; i < n; ++i) s += a[i]; return s; }\n"


def library(folder: Path, source: str, *flags: str) -> Path:
    (folder / "x.c").write_text(source)
    path = folder / "x.so"
    subprocess.run(["gcc", "-shared", "-fPIC", *flags, "-o", path, folder / "x.c"], check=True)
    return path


def told(path: Path) -> Structure:
    found = structure.of_library(path)
    assert isinstance(found, Structure), found
    return found


@needs_tools
def test_vectors_and_memory(tmp_path: Path) -> None:
    plain = told(library(tmp_path, SUM, "-O1"))
    wide = told(library(tmp_path, SUM, "-O3", "-ffast-math", "-mavx2"))
    assert plain.vector_share < 0.05 < wide.vector_share
    assert wide.instructions > plain.instructions and wide.code_hash != plain.code_hash
    arena = told(library(tmp_path, SUM + "static char arena[1000000]; char* get(void) { return arena; }\n", "-O1"))
    assert arena.allocated >= 1_000_000 > plain.allocated


@needs_tools
def test_the_hash_is_that_of_the_code_and_not_of_its_place(tmp_path: Path) -> None:
    first = told(library(tmp_path, SUM, "-O2"))
    moved = told(library(tmp_path, SUM, "-O2", "-Wl,-Ttext-segment=0x4000000"))
    named = told(library(tmp_path, SUM.replace("total", "another"), "-O2"))
    assert first.code_hash == moved.code_hash == named.code_hash


@pytest.mark.parametrize(
    ("instruction", "vector"),
    [
        ("vfmadd231ps %zmm1,%zmm2,%zmm3", True),
        ("vmovups (%rax),%ymm0", True),
        ("addps %xmm0,%xmm1", True),
        ("paddd %xmm0,%xmm1", True),
        ("addss %xmm0,%xmm1", False),
        ("vfmadd213sd %xmm0,%xmm1,%xmm2", False),
        ("mov %rax,%rbx", False),
        ("fmla v0.4s, v1.4s, v2.s[0]", True),
        ("fadd s0, s1, s2", False),
    ],
)
def test_which_instructions_are_vector_instructions(instruction: str, vector: bool) -> None:
    assert is_vector(instruction) is vector


def test_what_is_no_library_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(b"no library")
    assert isinstance(structure.of_library(path), str)


def test_a_runs_numbers_and_damaged_files(tmp_path: Path) -> None:
    kernels = [{"weight": 2, "bytes": 10.0}, {"weight": 1, "bytes": None}]
    summary = {"kernels": kernels, "search": {"wall_s": 2.0, "measured": 10}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    numbers, texts = structure.of_run(tmp_path)
    assert (numbers, texts) == ({"kernels": 2.0, "kernel_calls": 3.0, "bytes_moved": 20.0}, {})
    assert structure.of_search(tmp_path) == {"search_s": 2.0, "trials": 10.0, "trials_per_s": 5.0}
    (tmp_path / "summary.json").write_text("torn {")
    assert structure.of_run(tmp_path) == ({}, {}) and structure.of_search(tmp_path) == {}
