"""The commands on nights. They import nothing heavy before they need it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.cli.terminal import say, say_table, shown_progress
from tuner.errors import TunerError


def _nightly(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner import site
    from tuner.nightly import night

    with shown_progress() as progress:
        ended = night.run(arguments.night, progress)
        progress.phase("writing the site")
        try:
            lines = [*ended.lines, site.after_night(arguments.night)]
        except TunerError as error:  # the night is measured and stored: its verdict stands
            lines = [*ended.lines, f"no site: {error.message}"]
    for line in lines:
        say(line)
    return ended.exit_code


def _site(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner import site
    from tuner.nightly import browse

    with shown_progress() as progress:
        progress.phase("writing the site")
        out = Path(arguments.folder)
        if arguments.lines is not None:
            say(site.of_lines(Path(arguments.lines), out, arguments.url))
        else:
            say(site.of_database(browse.database_of(arguments.night, arguments.database), out, arguments.url))
    return 0


def _history(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.nightly import commands

    with shown_progress() as progress:
        request = commands.Request(arguments.action, arguments.what, arguments.why, arguments.night, arguments.database)
        tables, lines = commands.history(request, progress)
    for number, table in enumerate(tables):
        if number:
            say("")
        say_table(table)
    for line in lines:
        say(line)
    return 0


COMMANDS = {
    "nightly": (_nightly, "measure all cells of a night, judge them against their history, and tell what changed"),
    "site": (_site, "write the history of nights as a static site"),
    "history": (_history, "look into the nights: list, show, accept, find the commit, fill a gap, export and import"),
}
