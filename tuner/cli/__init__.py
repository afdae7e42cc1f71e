"""The command line: argv -> call -> exit code. It imports nothing heavy before a command needs it.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 2 the request is wrong, 3 the
machine or this program failed, 130 interrupted, 141 the reader of stdout is gone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from tuner.cli import commands, nights
from tuner.cli.terminal import ReaderGone, complain, flush, note, say, write_details
from tuner.commands.arguments import parsed, parser_of
from tuner.errors import InfrastructureError, TunerError, UserError
from tuner.schema import did_you_mean

INTERRUPTED = 130
READER_GONE = 141  # what a shell reports for a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Prints no traceback, whatever happens."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        flush()
        return code
    except TunerError as error:
        return complain(f"error: {error.message}", error.hint, error.exit_code)
    except KeyboardInterrupt as error:  # its text, where there is one, says how to go on
        return complain("interrupted", str(error), INTERRUPTED)
    except ReaderGone:
        return READER_GONE
    except Exception as error:  # noqa: BLE001 - the last boundary: nothing may reach the terminal as a traceback
        file = write_details()
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
        return complain(f"internal error: {reason}, details in {file}", "", 3)


def _dispatch(argv: list[str]) -> int:
    helps = {name: words for name, (_, words) in COMMANDS.items()}
    if not argv:
        say(parser_of(helps).format_help().rstrip())
        return 2
    if argv[0] in FORMER_COMMANDS:
        note(f"`{argv[0]}` is called `{FORMER_COMMANDS[argv[0]]}` now; the old name goes with the next release")
        argv = [FORMER_COMMANDS[argv[0]], *argv[1:]]
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        near = did_you_mean(argv[0], COMMANDS) or f"there are: {', '.join(COMMANDS)}"
        raise UserError(f"no command {argv[0]!r}", near)
    try:
        arguments = parsed(argv, helps)
    except SystemExit as done:  # argparse has printed the help that was asked for
        return int(done.code or 0)
    call, _ = COMMANDS[arguments.command]
    try:
        return call(arguments, argv)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "tuner", "kernels", "costmodel"):
            raise  # a defect of this program
        hint = "set up the environment with `make setup`; what is missing: python -m tuner doctor"
        raise InfrastructureError(f"the package {package} is missing", hint) from error


COMMANDS: Mapping[str, tuple[Callable[[argparse.Namespace, list[str]], int], str]] = {
    **commands.COMMANDS,
    **nights.COMMANDS,
}
"""By name: the call, and what the help says of it."""

FORMER_COMMANDS = {"absorb": "import", "replay": "simulate"}
"""Commands by their earlier names, each with its name today: they still work, with a note."""
