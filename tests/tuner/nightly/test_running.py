"""How a night is run every night: the workflow's steps as they stand, and the units of the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
NIGHTS = ROOT / "results" / "amd-epyc" / "nights.jsonl"

NIGHT = """
cells:
  - {name: pnpoly, kind: space, space: tests/tuner/simulate/recorded/pnpoly-RTX_3090.json.gz, evaluations: 20, seeds: 2}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project that is set up, with a night that takes seconds."""
    for name in ("tuner", "kernels", "costmodel", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "nightly.yaml").write_text(NIGHT)
    return tmp_path


def test_the_steps_of_the_workflow(project: Path) -> None:
    """From a history that was kept to one that has tonight, with a summary, a site, and the night's exit code."""
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text("utf-8"))["jobs"]["night"]
    scripts = {step["name"]: step["run"] for step in job["steps"] if "run" in step and "name" in step}
    told = {"GITHUB_STEP_SUMMARY": project / "told.md", "GITHUB_OUTPUT": project / "outputs"}

    def step(name: str, **variables: str) -> int:
        environment = {"PATH": "/usr/bin:/bin"} | {key: str(file) for key, file in told.items()} | variables
        done = subprocess.run(
            ["bash", "-e", "-c", scripts[name]], cwd=project, env=environment, capture_output=True, text=True
        )
        assert name.startswith("a regression") or done.returncode == 0, done.stderr
        return done.returncode

    history = project / "results" / "history.jsonl"
    history.parent.mkdir()
    shutil.copyfile(NIGHTS, history)
    before = history.read_text("utf-8").splitlines()
    for name in ("take over the history", "the night", "keep the history", "a site to publish"):
        step(name)
    assert "| pnpoly | undecided |" in told["GITHUB_STEP_SUMMARY"].read_text("utf-8")
    assert told["GITHUB_OUTPUT"].read_text("utf-8") == "code=0\n"
    after = history.read_text("utf-8").splitlines()
    assert set(before) < set(after) and len(after) == len(before) + 2, "the night, and its cell"
    last = "a regression or a failure ends the job red"
    assert [step(last, CODE=code) for code in ("0", "1", "")] == [0, 1, 3]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd looks at its own units")
def test_the_units_of_the_page_are_ones(project: Path) -> None:
    page = (ROOT / "docs" / "nightly.md").read_text("utf-8")
    [units] = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    found = re.split(r"# /etc/systemd/system/(\S+)\n", units.replace("/opt/tuner", str(project)))[1:]
    files = dict(zip(found[::2], found[1::2], strict=True))
    assert sorted(files) == ["tuner-nightly.service", "tuner-nightly.timer"]
    for name, text in files.items():
        (project / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(project / name) for name in files)], capture_output=True, text=True
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "tuner" in line]) == (0, [])
