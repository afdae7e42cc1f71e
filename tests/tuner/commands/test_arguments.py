"""What each command takes on the command line, and how wrong arguments are refused."""

from __future__ import annotations

import dataclasses
import itertools

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


@pytest.mark.parametrize(
    "parts",
    [
        ("history", "accept", "CELL", "--why W", "--night F"),
        ("history", "show", "CELL", "--database U"),
        ("history", "backfill", "CELL", "A..B", "C", "--night F"),
        ("history", "--night F"),
        ("nightly", "NIGHT"),
        ("site", "OUT", "--url U", "--lines F"),
        ("run", "CONFIG", "--trials 5", "--resume R"),
        ("bundle", "CONFIG", "-n 5", "-o F", "--seed 1"),
        ("measure", "BUNDLE", "-o F", "--gpus 0,1"),
        ("import", "FILE", "--database U"),
        ("show", "RUN", "--records", "--out D"),
        ("explain", "RUN", "KERNEL", "--code", "--time-budget 5s"),
        ("compare", "A", "B", "--time-budget 5s", "--out D"),
        ("scan", "FILE", "--emit mlir"),
        ("model", "train", "--file F", "--database U"),
        ("doctor", "CONFIG", "--json", "--out D"),
        ("machine", "--threads 2", "--again"),
        ("simulate", "SPACE", "OTHER", "--seeds 2", "--budget 9"),
    ],
)
def test_options_stand_anywhere(parts: tuple[str, ...]) -> None:
    """Every order of options and other arguments that keeps the order of the others."""
    command, *rest = parts
    others = [part for part in rest if not part.startswith("-")]
    usual = vars(parsed([command, *" ".join(rest).split()], HELPS))
    assert len(usual) > len(rest)
    for order in itertools.permutations(rest):
        if [part for part in order if not part.startswith("-")] == others:
            assert vars(parsed([command, *" ".join(order).split()], HELPS)) == usual


def test_a_help_still_names_the_defaults_and_a_word_with_a_dash_is_an_argument(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["history", "--night", "F", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "(default: list)" in shown and "SUPPRESS" not in shown
    assert parsed(["history", "--night", "F", "show", "--", "-cell"], HELPS).what == ["-cell"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("history --nigth F show a", "unknown argument '--nigth'"),
        ("history prune --night F", "invalid choice"),
        ("show --records", "required: RUN"),
        ("compare --out D a", "required: B"),
        ("nightly a b", "unknown argument 'b'"),
        ("history show a --why", "--why"),
    ],
)
def test_wrong_arguments_are_refused_in_any_order(line: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        parsed(line.split(), HELPS)
    assert words in refused.value.message
