"""The command line: argv -> call -> exit code. The only place that prints, and it imports nothing heavy
before a command needs it.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 2 the request is wrong, 3 the
machine or this program failed, 130 interrupted, 141 the reader of stdout is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tuner import __version__
from tuner.commands import show
from tuner.commands.arguments import FLAGS, parsed, parser_of
from tuner.errors import ConfigError, InfrastructureError, OutputError, TunerError, UserError
from tuner.progress import Progress, printable
from tuner.schema import did_you_mean

if TYPE_CHECKING:
    from tuner.config import RunConfig

INTERRUPTED = 130
READER_GONE = 141  # what a shell reports for a program that SIGPIPE ended


class _ReaderGone(Exception):
    """Whoever read our output stopped reading (`| head`)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Prints no traceback, whatever happens."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        _say_flush()
        return code
    except TunerError as error:
        return _complain(f"error: {error.message}", error.hint, error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", "", INTERRUPTED)
    except _ReaderGone:
        return READER_GONE
    except Exception as error:  # noqa: BLE001 - the last boundary: nothing may reach the terminal as a traceback
        file = _write_details()
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
        return _complain(f"internal error: {reason}, details in {file}", "", 3)


def _dispatch(argv: list[str]) -> int:
    helps = {name: words for name, (_, words) in COMMANDS.items()}
    if not argv:
        _say(parser_of(helps).format_help().rstrip())
        return 2
    if argv[0] in FORMER_COMMANDS:
        _note(f"`{argv[0]}` is called `{FORMER_COMMANDS[argv[0]]}` now; the old name goes with the next release")
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


# --- the commands ------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace, argv: list[str]) -> int:
    with _progress() as progress:  # its clock is that of the total budget: imports count
        config = _load(arguments)
        resume = None if arguments.resume is None else show.find(config.out, arguments.resume).name
        from tuner.commands import several

        outcome = several.run(config, shlex.join(["python", "-m", "tuner", *argv]), progress, resume)
    for line in outcome.lines:
        _say(line)
    return int(outcome.exit_code)


def _config(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.config import to_yaml

    _say(to_yaml(_load(arguments)).rstrip())
    return 0


def _tasks(arguments: argparse.Namespace, argv: list[str]) -> int:
    config = _load(arguments)
    from tuner.commands import run as commands

    with _progress() as progress:
        tasks = commands.tasks(config, progress)
    columns = ("name", "key", "weight", "flops", "bytes")
    _table([columns, *([_cell(task[column]) for column in columns] for task in tasks)])
    return 0


def _list(arguments: argparse.Namespace, argv: list[str]) -> int:
    rows = show.overview(arguments.out)
    if len(rows) == 1:
        _note(f"no runs under {arguments.out}")
        return 0
    _table(rows)
    return 0


def _show(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    for number, table in enumerate(show.description(folder, with_records=arguments.records)):
        if number:
            _say("")
        _table(table)
    return 0


def _profile(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    from tuner import environment
    from tuner.commands.profile import profile

    environment.check_versions()
    with _progress() as progress:
        table, sentences = profile(folder, progress)
    _table(table)
    for sentence in sentences:
        _say(sentence)
    return 0


def _explain(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands import several
    from tuner.commands.explain import explain
    from tuner.config import parse_duration
    from tuner.report import ladder

    folder = show.find(arguments.out, arguments.run)
    seconds = parse_duration(arguments.time_budget, "--time-budget")
    with _progress() as progress:
        told = explain(folder, arguments.kernel, seconds, progress)
        progress.phase("writing the report")
        several.rebuild_report(folder)
    table = ladder.table(told)
    _table([table.headers, *table.rows])
    for line in ladder.text(told, arguments.code):
        _say(printable(line))
    _say(str(folder / ladder.FOLDER / f"{told['task']}.html"))
    return 0


def _report(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    from tuner.commands import several

    written, since = several.rebuild_report(folder)
    for line in (str(written), *since):
        _say(line)
    return 0


def _export(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    from tuner.commands import several

    _say(str(several.reexport(folder)))
    return 0


def _machine(arguments: argparse.Namespace, argv: list[str]) -> int:
    from pathlib import Path

    from tuner import environment
    from tuner.devices import resolve
    from tuner.devices.cpu import machine

    environment.check_versions()
    threads = _whole("--threads", arguments.threads) if arguments.threads else environment.usable_threads()
    with _progress() as progress:
        ceilings = machine.ceilings(Path(arguments.out), threads, progress, again=arguments.again)
    devices = [[kind.name, device] for kind in resolve.all_kinds() for device in kind.devices()]
    _table([*machine.rows(ceilings), *devices])
    return 0


def _compare(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands import compare
    from tuner.config import parse_duration

    budget_s = parse_duration(arguments.time_budget, "--time-budget")
    with _progress() as progress:
        table, sentences = compare.compare(arguments.a, arguments.b, arguments.out, budget_s, progress)
    _table(table)
    for sentence in sentences:
        _say(sentence)
    return 0


def _whole(flag: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 4096):
        raise ConfigError(flag, f"expected a whole number from 1 to 4096, not {text!r}")
    return int(text)


def _doctor(arguments: argparse.Namespace, argv: list[str]) -> int:
    from dataclasses import asdict, replace

    from tuner import doctor
    from tuner.config import ModelConfig, RunConfig, load
    from tuner.devices import resolve

    config = RunConfig(ModelConfig("")) if arguments.config is None else load(arguments.config)
    resolve.check(config.target)
    findings = doctor.examine(config if arguments.out is None else replace(config, out=arguments.out))
    if arguments.json:
        _say(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        rows = [[finding.state.upper(), finding.part, finding.found] for finding in findings]
        advice = [["", "", f"-> {finding.advice}"] if finding.advice else [] for finding in findings]
        _table([row for pair in zip(rows, advice, strict=True) for row in pair if row])
    return doctor.exit_code(findings)


def _scan(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands.scan import emitted, scan

    if arguments.emit:
        _say(emitted(Path(arguments.file)))
        return 0
    with _progress() as progress:
        table, sentences = scan(Path(arguments.file), progress)
    _table(table)
    for sentence in sentences:
        _say(sentence)
    return 0


def _bundle(arguments: argparse.Namespace, argv: list[str]) -> int:
    config = _load(arguments)
    from tuner.commands.bundle import bundle

    with _progress() as progress:
        lines = bundle(config, _count(arguments.count, "-n"), Path(arguments.output), progress, arguments.device)
    for line in lines:
        _say(line)
    return 0


def _measure(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands.measure import measure

    chosen = None if arguments.gpus == "all" else [_count(n, "--gpus", 0) for n in arguments.gpus.split(",")]
    with _progress() as progress:
        lines, code = measure(Path(arguments.bundle), Path(arguments.output), arguments.runner, chosen, progress)
    for line in lines:
        _say(line)
    return code


def _import(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands.import_ import import_measurements
    from tuner.config import MeasureConfig

    with _progress() as progress:
        lines = import_measurements(
            Path(arguments.measurements), arguments.database or MeasureConfig.database, progress
        )
    for line in lines:
        _say(line)
    return 0


def _count(text: str, flag: str, least: int = 1) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= 100_000:
        raise UserError(f"{flag}: expected a whole number from {least} to 100000, not {text[:20]!r}")
    return int(text)


def _cell(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def _simulate(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands import simulate
    from tuner.search import STRATEGIES
    from tuner.simulate.recording import find, read

    strategies = arguments.strategy.split(",")
    unknown = next((s for s in strategies if s not in STRATEGIES), None)
    if unknown is not None:
        near = did_you_mean(unknown, STRATEGIES) or f"there are: {', '.join(STRATEGIES)}"
        raise UserError(f"--strategy: no strategy {unknown!r}", near)
    recordings = [read(path) for path in find([Path(p) for p in arguments.spaces])]
    earlier = [read(path) for path in find([Path(p) for p in arguments.warm])]
    with _progress() as progress:
        results = simulate.compare(recordings, strategies, arguments.budget, arguments.seeds, earlier, progress.message)
    _table(simulate.table(results))
    from tuner.report.simulation import curves

    picture = curves(simulate.curves(results))
    file = Path(arguments.picture)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture.png)
    except OSError as error:
        raise OutputError(f"--picture: cannot write {file}: {error}") from error
    _say("")
    _say(str(file))
    return 0


def _model(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands import model as training

    file = Path(arguments.file)
    if arguments.action == "show":
        _table(training.description(file))
        return 0
    from tuner.store import SqlStore

    with SqlStore(arguments.database) as store:
        known = training.trials_by_task(store)
    if arguments.action == "eval":
        _table(training.assessment(known))
        return 0
    model = training.train(known)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        model.save(file)
    except OSError as error:
        raise OutputError(f"{file}: the model cannot be written: {error}") from error
    _say(f"{file}: learned from {sum(len(task.vectors) for task in known)} trials of {len(known)} tasks")
    return 0


def _nightly(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner import site
    from tuner.nightly import night

    with _progress() as progress:
        ended = night.run(arguments.night, progress)
        progress.phase("writing the site")
        try:
            lines = [*ended.lines, site.after_night(arguments.night)]
        except TunerError as error:  # the night is measured and stored: its verdict stands
            lines = [*ended.lines, f"no site: {error.message}"]
    for line in lines:
        _say(line)
    return ended.exit_code


def _site(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner import site
    from tuner.nightly import browse

    with _progress() as progress:
        progress.phase("writing the site")
        database = browse.database_of(arguments.night, arguments.database)
        _say(site.of_database(database, Path(arguments.folder), arguments.url))
    return 0


def _history(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.nightly import commands

    with _progress() as progress:
        request = commands.Request(arguments.action, arguments.what, arguments.why, arguments.night, arguments.database)
        tables, lines = commands.history(request, progress)
    for number, table in enumerate(tables):
        if number:
            _say("")
        _table(table)
    for line in lines:
        _say(line)
    return 0


# --- speaking ------------------------------------------------------------------------------------


def _table(rows: Sequence[Sequence[str]]) -> None:
    """Columns under each other, two blanks apart."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max((len(r[i]) for r in cells if i < len(r) - 1), default=0) for i in range(max(map(len, cells)))]
    for row in cells:
        _say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def _say(text: str) -> None:
    try:
        print(text)
    except BrokenPipeError:
        _drop_output()


def _say_flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> NoReturn:
    """Nobody reads stdout any more; what Python still holds for it must not raise again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise _ReaderGone


def _note(text: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed; the exit code still tells
        print(printable(text), file=sys.stderr)


def _complain(text: str, hint: str, code: int) -> int:
    for line in [*text.splitlines(), *(f"  {line}" for line in hint.splitlines())]:
        _note(line)
    return code


def _write_details() -> str:
    """The traceback of the exception being handled, in a file that outlives us."""
    try:
        descriptor, file = tempfile.mkstemp(prefix="tuner-error-", suffix=".txt")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as details:
            details.write(f"tuner {__version__}: {shlex.join(sys.argv)}\n\n{traceback.format_exc()}")
    except OSError as error:
        return f"no file ({error.strerror})"
    return file


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    progress = Progress()
    try:
        yield progress
    finally:
        progress.close()


# --- reading argv ----------------------------------------------------------------------------------


def _load(arguments: argparse.Namespace) -> RunConfig:
    from tuner.config import load
    from tuner.devices import resolve

    given = {path: getattr(arguments, flag[2:].replace("-", "_")) for flag, (path, _, _) in FLAGS.items()}
    config = load(arguments.config, {path: _flag_value(path, text) for path, text in given.items() if text is not None})
    resolve.check(config.target)
    return config


def _flag_value(path: str, text: str) -> Any:
    """A flag's text as YAML would have read it: whole numbers, and a target written as JSON."""
    if path in ("search.trials", "search.seed"):
        with contextlib.suppress(ValueError):
            return int(text)
    if path == "target.spec" and text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(path, f"--target is not JSON: {error}") from error
    return text


COMMANDS: Mapping[str, tuple[Callable[[argparse.Namespace, list[str]], int], str]] = {
    "run": (_run, "tune, verify, compare and export a model: the main job"),
    "config": (_config, "print the configuration as it is understood, defaults included"),
    "tasks": (_tasks, "list the tensor programs that a model is made of"),
    "list": (_list, "list the runs"),
    "show": (_show, "print what a run found"),
    "profile": (_profile, "tell where the time of a run's exported model goes"),
    "explain": (_explain, "show how a run's kernel came about: each step of its schedule, its time and its code"),
    "report": (_report, "write the report of a run again, from its records"),
    "compare": (_compare, "time two runs, two trials of a kernel, or two exported models against each other"),
    "machine": (_machine, "measure what this machine can do at most"),
    "export": (_export, "export the model of a run again"),
    "scan": (_scan, "tell which loop nests of C, LLVM IR or MLIR are tensor computations"),
    "doctor": (_doctor, "check the set-up and say what to do: packages, TVM, CUDA, OpenCL, memory, folders, database"),
    "bundle": (_bundle, "compile a model's candidates for a GPU, to be measured on another machine"),
    "measure": (_measure, "check and time a bundle on this machine's GPUs"),
    "import": (_import, "bring what was measured elsewhere into the record database"),
    "model": (_model, "train a cost model on the records, show one, or evaluate how well it ranks"),
    "nightly": (_nightly, "measure all cells of a night, judge them against their history, and tell what changed"),
    "site": (_site, "write the history of nights as a static site"),
    "history": (_history, "look into the nights: list, show, accept, find the commit, fill a gap, export and import"),
    "simulate": (_simulate, "play search strategies against recorded spaces: no device needed"),
}

FORMER_COMMANDS = {"absorb": "import", "replay": "simulate"}
"""Commands by their earlier names, each with its name today: they still work, with a note."""
