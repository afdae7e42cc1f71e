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
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]


FOREIGN = {"--tuner", "--spaces", "--per-space"}
"""Flags of the public replay benchmark."""


def named(pattern: str) -> set[tuple[str, str]]:
    """(page, first group) of every match in the documentation."""
    found = {(p.relative_to(ROOT).as_posix(), m) for p in PAGES for m in re.findall(pattern, p.read_text("utf-8"))}
    assert found, "nothing matches: does the pattern still fit the documentation?"
    return found


def test_every_command_that_is_named_exists() -> None:
    assert {(page, name) for page, name in named(r"(?:`|-m )tuner ([a-z]+)\b") if name not in cli.COMMANDS} == set()


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
    paths = {(page, ROOT / path) for page, path in named(r"`((?:tuner|tests|kernels|costmodel|configs|docs)/[\w./]+)`")}
    scripts = {(page, ROOT / path) for page, path in named(r"python (experiments/[\w/.]+)")}
    assert {(page, path) for page, path in links | paths | scripts if not path.exists()} == set()


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
