"""What each command takes on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from tuner import __version__
from tuner.errors import UserError
from tuner.schema import did_you_mean

FLAGS = {
    "--trials": ("search.trials", "N", "measure at most N candidates, or `auto`: as many as the time allows"),
    "--time-budget": ("search.time_budget", "TIME", "search this long: 90s, 10m, 1h30m"),
    "--within": ("total_budget", "TIME", "end this long after the start, export included: 30s, 5m, 1h"),
    "--target": ("target.spec", "T", "auto, llvm, cuda, opencl, simulated_cuda, or a TVM target as JSON"),
    "--precision": (
        "precision",
        "P",
        "float32, float16, bfloat16, int8, or auto: the fastest mix that keeps accuracy",
    ),
    "--seed": ("search.seed", "N", "the seed of everything random"),
    "--effort": ("search.effort", "E", "quick, standard or thorough: fills in what nothing else sets"),
    "--strategy": ("search.strategy", "S", "guided, tpe, cmaes, gp, qmc, random, grid or metaschedule"),
    "--out": ("out", "DIR", "where runs are kept (default: results/runs)"),
}
"""A flag, the key of the run file that it beats, its placeholder, and its help."""


class _Parser(argparse.ArgumentParser):
    """argparse with errors of this program's kind."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, f"see: {self.prog} --help")


class _CommandParser(_Parser):
    """The parser of one command: its options may stand before, between and behind its other arguments."""

    _options_are_taken = False

    def parse_known_args(  # type: ignore[override]  # its overloads tell kinds of namespaces apart
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Takes the options first and then the rest, which argparse does for parsers without commands alone.

        Behind `--` everything is an argument, and a help tells the arguments as they are: there argparse does it.
        """
        given = list(args or ())
        if self._options_are_taken or {"-h", "--help", "--"} & set(given):
            return super().parse_known_args(given, namespace)
        unknown = [a for a in given if a.startswith("--") and a.partition("=")[0] not in self._option_string_actions]
        if unknown:  # its value would be taken for an argument
            return argparse.Namespace(), unknown
        self._options_are_taken = True
        try:
            return self.parse_known_intermixed_args(given, namespace)
        finally:
            self._options_are_taken = False


def parsed(argv: Sequence[str], commands: Mapping[str, str]) -> argparse.Namespace:
    """The arguments of a command line that names one of `commands`, each with its help.

    Raises UserError for what is wrong, SystemExit where a help or the version was asked for and printed.
    """
    parser = parser_of(commands)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        near = did_you_mean(unknown[0].partition("=")[0], FLAGS) if argv[0] in CONFIGURED else ""
        raise UserError(
            f"unknown argument {unknown[0]!r}" + (f"; {near}" if near else ""), f"see: {parser.prog} --help"
        )
    return arguments


CONFIGURED = ("run", "config", "tasks", "bundle")
"""The commands that take a run file, and its flags."""

DEFAULT = "(default: %(default)s)"

OPTIONS: Mapping[str, Sequence[tuple[tuple[str, ...], Mapping[str, Any]]]] = {
    "bundle": (
        (("-n",), {"dest": "count", "metavar": "N", "default": "200", "help": f"how many candidates {DEFAULT}"}),
        (("-o",), {"dest": "output", "metavar": "FILE", "default": "bundle.tar", "help": f"where to {DEFAULT}"}),
        (("--device",), {"metavar": "NAME", "help": "go on from what was imported from this kind of GPU"}),
    ),
    "measure": (
        (("bundle",), {"metavar": "BUNDLE", "help": "what `bundle` made"}),
        (
            ("-o",),
            {"dest": "output", "metavar": "FILE", "default": "measurements.jsonl", "help": f"where to {DEFAULT}"},
        ),
        (
            ("--runner",),
            {
                "metavar": "R",
                "help": "a kind of device (default: the bundle's), or replay:FILE with recorded measurements",
            },
        ),
        (("--gpus",), {"metavar": "N,N", "default": "all", "help": f"numbers of the GPUs to use {DEFAULT}"}),
    ),
    "explain": (
        (
            ("kernel",),
            {
                "metavar": "KERNEL",
                "nargs": "?",
                "help": "its name in `show`, or the beginning of it (default: what takes most of the time)",
            },
        ),
        (
            ("--time-budget",),
            {"metavar": "TIME", "default": "20s", "help": f"time the steps for so long, together {DEFAULT}"},
        ),
        (("--code",), {"action": "store_true", "help": "print all of the kernel's code, not its hottest loop alone"}),
    ),
    "scan": (
        (("file",), {"metavar": "FILE", "help": "C or C++ (.c, .cpp, .cc, .cxx), LLVM IR (.ll, .bc) or .mlir"}),
        (("--emit",), {"choices": ("mlir",), "help": "write what is found as linalg operations instead of a table"}),
    ),
    "import": (
        (("measurements",), {"metavar": "FILE", "help": "what `measure` wrote"}),
        (("--database",), {"metavar": "URL", "help": "the record database (default: that of a run file)"}),
    ),
    "nightly": ((("night",), {"metavar": "NIGHT", "help": "the file of a night, e.g. configs/nightly.yaml"}),),
    "site": (
        (("folder",), {"metavar": "OUT", "help": "the folder to write the site into; an earlier site is replaced"}),
        (
            ("--night",),
            {"metavar": "FILE", "default": "configs/nightly.yaml", "help": f"the file of the nights {DEFAULT}"},
        ),
        (("--database",), {"metavar": "URL", "help": "the database of the history (default: that of the file)"}),
        (("--lines",), {"metavar": "FILE", "help": "what `history export` wrote, instead of a database"}),
        (("--url",), {"metavar": "URL", "default": "", "help": "where the site will be published, for its feed"}),
    ),
    "history": (
        (
            ("action",),
            {
                "nargs": "?",
                "default": "list",
                "choices": ("list", "show", "regressions", "accept", "bisect", "backfill", "export", "import"),
                "help": f"what to do {DEFAULT}",
            },
        ),
        (
            ("what",),
            {
                "metavar": "WHAT",
                "nargs": "*",
                "help": "show CELL, accept CELL, bisect CELL GOOD BAD, backfill CELL|all COMMIT|A..B ..., export FILE, "
                "import FILE",
            },
        ),
        (("--why",), {"metavar": "TEXT", "help": "with accept: why the change is right"}),
        (
            ("--night",),
            {"metavar": "FILE", "default": "configs/nightly.yaml", "help": f"the file of the nights {DEFAULT}"},
        ),
        (("--database",), {"metavar": "URL", "help": "the database of the history (default: that of the file)"}),
    ),
}


def _simulate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("spaces", metavar="SPACE", nargs="+", help="recorded spaces (.json.gz), or folders of them")
    command.add_argument(
        "--strategy", metavar="S", default="guided,random", help="one or several (default: %(default)s)"
    )
    command.add_argument(
        "--budget", metavar="N", type=_positive, default=400, help="evaluations (default: %(default)s)"
    )
    command.add_argument("--seeds", metavar="K", type=_positive, default=5, help="runs of each (default: %(default)s)")
    warm = "recordings of the same kernels on other devices, which `guided` starts from"
    command.add_argument("--warm", metavar="SPACE", nargs="+", default=[], help=warm)
    picture = "where the curves are drawn (default: %(default)s)"
    command.add_argument("--picture", metavar="FILE", default="results/replay.png", help=picture)


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return number


def parser_of(commands: Mapping[str, str]) -> argparse.ArgumentParser:
    """The parser of commands by name, each with its help. What is parsed has the command's name as `command`.

    Raises UserError for arguments that are wrong.
    """
    parser = _Parser(
        prog="tuner",
        description="Tunes machine-learning models on TVM.",
        epilog="exit codes: 0 fine, 1 a confirmed regression or a broken cell (nightly), 2 the request is wrong, "
        "3 the machine or this program failed, 130 interrupted",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tuner {__version__}")
    named = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=_CommandParser
    )
    for name, words in commands.items():
        command = named.add_parser(name, help=words, description=words, allow_abbrev=False)
        _add_arguments(name, command)
    return parser


def _add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    if name in CONFIGURED:
        command.add_argument("config", metavar="CONFIG", help="the run file, e.g. configs/resnet.yaml")
        for flag, (path, placeholder, text) in FLAGS.items():
            command.add_argument(flag, metavar=placeholder, help=f"{text} [{path}]")
    elif name == "doctor":
        command.add_argument("config", metavar="CONFIG", nargs="?", help="check what this run file needs")
        command.add_argument("--out", metavar="DIR", help="check this folder for runs (default: results/runs)")
        command.add_argument("--json", action="store_true", help="print the findings as JSON")
    elif name == "simulate":
        _simulate_arguments(command)
    elif name == "model":
        command.add_argument("action", choices=("train", "show", "eval"), help="what to do")
        where = "the model's file (default: %(default)s)"
        command.add_argument("--file", metavar="FILE", default="results/model.ubj", help=where)
        records = "the records to train on or to evaluate with (default: %(default)s)"
        command.add_argument("--database", metavar="URL", default="sqlite:///results/records.db", help=records)
    elif name in ("list", "show", "profile", "explain", "report", "export", "compare", "machine"):
        text = "where the runs are (default: %(default)s)"
        command.add_argument("--out", metavar="DIR", default="results/runs", help=text)
    if name == "run":
        command.add_argument("--resume", metavar="RUN", help="go on with a run that was interrupted")
    if name in ("show", "profile", "explain", "report", "export"):
        command.add_argument("run", metavar="RUN", help="a run's id, the beginning of it, or `latest`")
    if name == "compare":
        for letter in "ab":
            text = "a run, a run's trial (RUN:TRIAL), or the folder of an exported model"
            command.add_argument(letter, metavar=letter.upper(), help=text)
        command.add_argument(
            "--time-budget", metavar="TIME", default="30s", help="time them for so long (default: 30s)"
        )
    if name == "machine":
        command.add_argument("--threads", metavar="N", help="default: every core this process may use")
        command.add_argument("--again", action="store_true", help="measure even if it is known")
    for flags, options in OPTIONS.get(name, ()):
        command.add_argument(*flags, **options)
    if name == "show":
        command.add_argument("--records", action="store_true", help="every trial, failures included")
