"""What each command takes on the command line, and how wrong arguments are refused."""

from __future__ import annotations

import dataclasses

import pytest

from tuner import cli
from tuner.commands.arguments import CONFIGURED, FLAGS, OPTIONS, parsed, parser_of
from tuner.config import SearchConfig, TargetConfig
from tuner.errors import UserError

HELPS = {name: words for name, (_, words) in cli.COMMANDS.items()}


def test_every_flag_is_in_the_help_with_the_key_it_beats(capsys: pytest.CaptureFixture[str]) -> None:
    for command in CONFIGURED:
        cli.main([command, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        for flag, (path, _, _) in FLAGS.items():
            assert flag in shown
            assert f"[{path}]" in shown
        assert ("--resume" in shown) == (command == "run")


def test_the_keys_of_the_flags_are_those_of_a_run_file() -> None:
    keys = {"out", "total_budget", "precision"}
    for name, section in (("search", SearchConfig), ("target", TargetConfig)):
        keys |= {f"{name}.{field.name.removesuffix('_s')}" for field in dataclasses.fields(section)}
    assert {path for path, _, _ in FLAGS.values()} <= keys


def test_every_command_has_a_help_and_nothing_else_has_options() -> None:
    listed = parser_of(HELPS).format_help()
    for name, words in HELPS.items():
        assert name in listed
        assert words.partition(":")[0].split()[0] in listed
    assert OPTIONS.keys() | set(CONFIGURED) <= HELPS.keys()


def test_what_is_parsed_names_its_command() -> None:
    arguments = parsed(["run", "c.yaml", "--trials", "5", "--resume", "latest"], HELPS)
    assert (arguments.command, arguments.config, arguments.trials, arguments.resume) == (
        "run", "c.yaml", "5", "latest",
    )  # fmt: skip
    assert arguments.time_budget is None
    assert parsed(["measure", "b.tar"], HELPS).output == "measurements.jsonl"
    assert parsed(["bundle", "c.yaml", "-n", "3"], HELPS).count == "3"
    assert parsed(["simulate", "a", "b", "--warm", "c", "d"], HELPS).warm == ["c", "d"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "c.yaml", "--trails", "5"], "did you mean '--trials'?"),
        (["run", "c.yaml", "--trial=5"], "did you mean '--trials'?"),
        (["list", "--trials", "5"], "unknown argument '--trials'"),
        (["run"], "CONFIG"),
        (["model", "trian"], "invalid choice"),
        (["simulate", "a", "--seeds", "none"], "'none' is no whole number above 0"),
    ],
)
def test_a_wrong_argument_is_a_user_error_that_names_the_help(argv: list[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(argv, HELPS)
    assert words in caught.value.message
    assert "--help" in caught.value.hint


def test_a_help_that_was_asked_for_ends_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        parsed(["compare", "--help"], HELPS)
    assert not done.value.code
    assert "RUN:TRIAL" in capsys.readouterr().out
