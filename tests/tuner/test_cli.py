"""The command line's manners: exit codes, messages, did-you-mean, pipes, interrupts, and no tracebacks."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tuner import cli, config
from tuner.commands.arguments import FLAGS
from tuner.errors import InfrastructureError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_file(tmp_path: Path) -> str:
    file = tmp_path / "run.yaml"
    file.write_text("model: {source: onnx:light_resnet50}\nsearch: {trials: 5}\n")
    return str(file)


def replace_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def command(arguments: argparse.Namespace, argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "COMMANDS", {**cli.COMMANDS, "list": (command, "")})


def test_no_command_prints_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "run" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["show", "-h"], ["--version"]])
def test_help_is_no_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    shown = capsys.readouterr()
    assert shown.out
    assert not shown.err


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["rum", "x.yaml"], "did you mean 'run'?"),
        (["frobnicate"], "there are: run, config"),
        (["run"], "CONFIG"),
        (["show"], "RUN"),
        (["run", "FILE", "--trails", "5"], "did you mean '--trials'?"),
        (["run", "FILE", "--trial", "5"], "did you mean '--trials'?"),  # no abbreviations: scripts would break later
        (["run", "FILE", "--trials"], "--trials"),
        (["run", "FILE", "--trials", "0"], "search.trials"),
        (["run", "FILE", "--trials", "many"], "search.trials"),
        (["run", "FILE", "--time-budget", "10x"], "search.time_budget"),
        (["run", "FILE", "--seed", "-1"], "search.seed"),
        (["run", "FILE", "--effort", "quik"], "did you mean 'quick'?"),
        (["run", "FILE", "--strategy", "gided"], "did you mean 'guided'?"),
        (["run", "FILE", "--target", "lvm"], "did you mean 'llvm'?"),
        (["run", "FILE", "--target", "{kind"], "not JSON"),
        (["run", "FILE", "--out", ""], "out: expected"),
        (["run", "FILE", "--resume", "../elsewhere"], "no run"),
        (["run", "missing.yaml"], "no such file"),
        (["list", "--trials", "5"], "--trials"),
    ],
)
def test_a_wrong_request_is_one_clear_error(
    argv: list[str], word: str, run_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([run_file if word == "FILE" else word for word in argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert word in shown.err
    assert len(shown.err.splitlines()) <= 2


@pytest.mark.parametrize("command", ["run", "config", "tasks", "bundle", "doctor"])
def test_a_file_for_a_device_that_is_none_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: {source: onnx:light_resnet50}\ntarget: lvm\n")
    assert cli.main([command, str(file)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: target.spec: expected auto, cuda, simulated_cuda, opencl, llvm or a TVM")
    assert "did you mean 'llvm'?" in shown.err


@pytest.mark.parametrize("command", ["run", "config", "tasks", "bundle"])
def test_an_attribute_that_no_target_has_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: {source: onnx:light_resnet50}\ntarget: {kind: opencl, thread: 2}\n")
    assert cli.main([command, str(file)]) == 2
    assert capsys.readouterr().err == (
        "error: target.spec.thread: unknown key\n"
        "  write threads beside the target: target: {spec: {kind: ...}, threads: 2}\n"
    )


@pytest.mark.parametrize(("former", "name"), cli.FORMER_COMMANDS.items())
def test_a_former_command_does_the_same_and_says_its_new_name(
    former: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all its flags, and the same error for a file that is not there."""
    arguments = {
        "import": ["nowhere.jsonl", "--database", "sqlite://"],
        "simulate": ["nowhere.json.gz", "--strategy", "random", "--budget", "3", "--seeds", "1", "--picture", "p.png"],
    }[name]
    assert cli.main([name, *arguments]) == 2
    now = capsys.readouterr()
    assert cli.main([former, *arguments]) == 2
    then = capsys.readouterr()
    first, _, rest = then.err.partition("\n")
    assert first == f"`{former}` is called `{name}` now; the old name goes with the next release"
    assert without_clock(rest) == without_clock(now.err)
    assert then.out == now.out == ""
    assert "nowhere.json" in rest


def without_clock(text: str) -> str:
    """Progress lines begin with the time."""
    return re.sub(r"^\[\d+:\d+\] ", "", text, flags=re.MULTILINE)


def test_a_former_command_is_in_no_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.FORMER_COMMANDS.keys().isdisjoint(cli.COMMANDS)
    cli.main(["--help"])
    shown = capsys.readouterr().out
    assert not [name for name in cli.FORMER_COMMANDS if re.search(rf"\b{name}\b", shown)]


def test_flags_beat_the_file(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {
        "--trials": "7", "--time-budget": "1h30m", "--target": '{"kind": "llvm", "mcpu": "znver4"}', "--seed": "9",
        "--effort": "thorough", "--strategy": "tpe", "--out": "elsewhere", "--within": "2h", "--precision": "auto",
    }  # fmt: skip
    assert set(flags) == set(FLAGS)
    assert cli.main(["config", run_file, *(word for pair in flags.items() for word in pair)]) == 0
    resolved = config.parse(capsys.readouterr().out, "resolved")
    search = resolved.search
    assert (search.trials, search.time_budget_s, search.seed, search.strategy) == (7, 5400, 9, "tpe")
    assert search.early_stop == config.EFFORTS["thorough"].early_stop
    assert resolved.target.spec == {"kind": "llvm", "mcpu": "znver4"}
    assert (resolved.out, resolved.total_budget_s, resolved.precision) == ("elsewhere", 7200.0, "auto")


def test_trials_may_be_auto(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", run_file, "--trials", "auto"]) == 0
    assert config.parse(capsys.readouterr().out, "resolved").search.trials is None


def test_a_deliberate_error_gives_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_command(monkeypatch, InfrastructureError("the disk\nis \x1b[31mfull", "free some space"))
    assert cli.main(["list"]) == 3
    assert capsys.readouterr().err == "error: the disk\nis ?[31mfull\n  free some space\n"


def test_an_unforeseen_error_is_one_line_and_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    replace_command(monkeypatch, ZeroDivisionError("one\ntwo"))
    assert cli.main(["list"]) == 3
    shown = capsys.readouterr()
    match = re.fullmatch(r"internal error: ZeroDivisionError: one, details in (.*)\n", shown.err)
    assert match
    assert "Traceback" in Path(match[1]).read_text()


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replace_command(monkeypatch, KeyboardInterrupt())
    assert cli.main(["list"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_leaves_is_not_complained_about(tmp_path: Path) -> None:
    for number in range(3000):  # more than a pipe holds
        (tmp_path / f"a-run-with-a-rather-long-name-{number:05}").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", "list", "--out", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == cli.READER_GONE
    assert complaint == b""


def test_control_c_while_a_file_is_read(tmp_path: Path) -> None:
    """A real SIGINT to a real process: `list` where a summary is a pipe, which opens once it is being read."""
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "summary.json")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits it where it is ignored
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner", "list", "--out", str(tmp_path)], stderr=subprocess.PIPE, cwd=ROOT
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with open(tmp_path / "run" / "summary.json", "wb"):  # waits until the child has opened its end
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint == b"interrupted\n"
