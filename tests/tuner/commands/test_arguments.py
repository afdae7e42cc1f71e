"""What each command takes: every flag is explained with the key it beats, and what is wrong is one typed error."""

from __future__ import annotations

import argparse

import pytest

from tuner import config
from tuner.cli import COMMANDS
from tuner.commands import arguments
from tuner.commands.arguments import CONFIGURED, FLAGS, parsed
from tuner.errors import UserError

HELP = dict.fromkeys(COMMANDS, "what it does")


def subparser(name: str) -> argparse.ArgumentParser:
    [named] = [a for a in arguments.parser_of(HELP)._actions if isinstance(a, argparse._SubParsersAction)]  # noqa: SLF001
    found = named.choices[name]
    assert isinstance(found, argparse.ArgumentParser)
    return found


@pytest.mark.parametrize("name", CONFIGURED)
def test_every_flag_of_a_run_file_is_explained_with_the_key_that_it_beats(name: str) -> None:
    shown = " ".join(subparser(name).format_help().split())
    for flag, (path, placeholder, _) in FLAGS.items():
        assert f"{flag} {placeholder}" in shown
        assert f"[{path}]" in shown


@pytest.mark.parametrize(("flag", "path"), [(flag, path) for flag, (path, _, _) in FLAGS.items()])
def test_the_key_that_a_flag_beats_is_one_of_a_run_file(flag: str, path: str) -> None:
    top, _, key = path.partition(".")
    with pytest.raises(UserError) as caught:  # no value is of this type, and an unknown key is another error
        config.parse(
            f"model: {{source: 'onnx:x'}}\n{top}: {{{key}: [[]]}}\n"
            if key
            else f"model: {{source: 'onnx:x'}}\n{top}: [[]]\n",
            "run file",
        )
    assert "unknown key" not in str(caught.value)
    assert top in str(caught.value), flag


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "a.yaml", "--trails", "3"], "did you mean '--trials'?"),
        (["run"], "CONFIG"),
        (["simulate", "a", "--budget", "0"], "no whole number above 0"),
        (["model", "teach"], "teach"),
        (["show"], "RUN"),
        (["run", "a.yaml", "--trial", "3"], "--trial"),  # no abbreviations: a later flag must not change what is meant
    ],
)
def test_what_is_wrong_is_named(argv: list[str], words: str) -> None:
    with pytest.raises(UserError, match=r".") as caught:
        parsed(argv, HELP)
    assert words in caught.value.message
    assert caught.value.hint is not None
    assert "--help" in caught.value.hint


def test_defaults_are_those_that_the_help_names() -> None:
    given = parsed(["compare", "a", "b"], HELP)
    assert (given.a, given.b, given.time_budget, given.out) == ("a", "b", "30s", "results/runs")
    shown = " ".join(subparser("compare").format_help().split())
    assert "(default: 30s)" in shown
    assert "(default: results/runs)" in shown
