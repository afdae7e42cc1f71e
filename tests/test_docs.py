"""What the documentation names is there: commands, flags, make targets, files."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tuner import cli

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "results" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments").rglob("*.md")),
]

FOREIGN = {
    "--tuner",
    "--spaces",
    "--per-space",
    "--resource-usage",
    "--use",
    "--ptxas-options",
    "--now",
    "--rm",
    "--build-arg",
}
"""Flags of the public replay benchmark, of nvcc, systemctl and docker."""

FOREIGN_FILES = {"replay_bench.py", "run_model.py", "siteconf.py"}
"""The public replay benchmark, what an export contains, PyCUDA's settings."""

ROOMS = "tuner|tests|kernels|costmodel|configs|docs|experiments"


def named(pattern: str) -> set[tuple[str, str]]:
    """(page, first group) of every match in the documentation."""
    matches = {(p.relative_to(ROOT).as_posix(), m) for p in PAGES for m in re.findall(pattern, p.read_text("utf-8"))}
    assert matches, "nothing matches: does the pattern still fit the documentation?"
    return matches


def test_every_command_that_is_named_exists() -> None:
    """Documents say the new names; the line of the change log that says the former ones is the only other."""
    pages = named(r"(?:`|-m )tuner ([a-z]+)\b")
    unknown = {(page, name) for page, name in pages if name not in cli.COMMANDS}
    assert unknown == {("CHANGELOG.md", name) for name in cli.FORMER_COMMANDS}


def test_the_readme_names_every_command() -> None:
    rows = re.findall(r"^\| `tuner (\w+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(cli.COMMANDS)


def test_every_flag_that_is_named_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.COMMANDS:
        cli.main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for script in (ROOT / "experiments").rglob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', script.read_text("utf-8")))
    assert {(page, flag) for page, flag in named(r"(?<![-\w])(--[a-z][a-z-]+)") if flag not in known | FOREIGN} == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {(page, name) for page, name in named(r"(?:`|^)make ([a-z]+)") if name not in targets} == set()


def test_every_file_that_is_named_exists() -> None:
    links = {(page, (ROOT / page).parent / target) for page, target in named(r"\]\(([^)#:]+)\)")}
    paths = {(page, ROOT / path) for page, path in named(rf"`((?:{ROOMS})/[\w./]+)`")}
    files = {(page, ROOT / path) for page, path in named(rf"(?<![\w./<])((?:{ROOMS})/[\w./-]+\.(?:py|md|yaml|c))\b")}
    assert {(page, path) for page, path in links | paths | files if not path.exists()} == set()


def test_every_python_file_that_is_named_without_its_folder_exists() -> None:
    there = {path.name for room in ROOMS.split("|") for path in (ROOT / room).rglob("*.py")}
    assert {(page, n) for page, n in named(r"`(\w+\.py)`") if n not in there | FOREIGN_FILES} == set()


def test_every_python_name_that_is_named_exists() -> None:
    names = named(r"`((?!kernels\.csv)(?:tuner|kernels|costmodel)(?:\.\w+)+)`")
    assert {(page, name) for page, name in names if not is_defined(name)} == set()
    assert not is_defined("tuner.config.lode")


def is_defined(name: str) -> bool:
    """Whether `package.module.Name.attribute` is a module that there is, and what it defines."""
    path, parts = ROOT, name.split(".")
    while parts and ((path / parts[0]).is_dir() or (path / f"{parts[0]}.py").exists()):
        path = path / parts.pop(0)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.exists():
        return False
    source = file.read_text("utf-8")
    return all(re.search(rf"\b(?:def|class|import) {part}\b|^{part}\b", source, re.MULTILINE) for part in parts)


def test_the_workflow_runs_what_there_is() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text("utf-8"))
    job = workflow["jobs"]["test"]
    required = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    versions = SpecifierSet(required)
    assert [v for v in ("3.10", "3.11", "3.12", "3.13", "3.14") if v in versions] == job["strategy"]["matrix"]["python"]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    lines = [step["run"].split() for step in job["steps"] if "run" in step]
    assert [line[0] for line in lines] == ["make", "make", ".ci/run"]
    assert {line[1] for line in lines if line[0] == "make"} <= targets
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert workflow["permissions"] == {"contents": "read"}
