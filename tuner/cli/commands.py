"""The commands that tune, measure and look. They import nothing heavy before they need it."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.cli.terminal import note, say, say_table, shown_progress
from tuner.commands import show
from tuner.commands.arguments import FLAGS
from tuner.errors import ConfigError, OutputError, UserError
from tuner.progress import printable
from tuner.schema import did_you_mean

if TYPE_CHECKING:
    from tuner.config import RunConfig


def _run(arguments: argparse.Namespace, argv: list[str]) -> int:
    with shown_progress() as progress:  # its clock is that of the total budget: imports count
        config = _load(arguments)
        resume = None if arguments.resume is None else show.find(config.out, arguments.resume).name
        from tuner.commands import several

        outcome = several.run(config, shlex.join(["python", "-m", "tuner", *argv]), progress, resume)
    for line in outcome.lines:
        say(line)
    return int(outcome.exit_code)


def _config(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.config import to_yaml

    say(to_yaml(_load(arguments)).rstrip())
    return 0


def _tasks(arguments: argparse.Namespace, argv: list[str]) -> int:
    config = _load(arguments)
    from tuner.commands import run as commands

    with shown_progress() as progress:
        tasks = commands.tasks(config, progress)
    columns = ("name", "key", "weight", "flops", "bytes")
    say_table([columns, *([_cell(task[column]) for column in columns] for task in tasks)])
    return 0


def _list(arguments: argparse.Namespace, argv: list[str]) -> int:
    rows = show.overview(arguments.out)
    if len(rows) == 1:
        note(f"no runs under {arguments.out}")
        return 0
    say_table(rows)
    return 0


def _show(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    for number, table in enumerate(show.description(folder, with_records=arguments.records)):
        if number:
            say("")
        say_table(table)
    return 0


def _profile(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    from tuner import environment
    from tuner.commands.profile import profile

    environment.check_versions()
    with shown_progress() as progress:
        table, sentences = profile(folder, progress)
    say_table(table)
    for sentence in sentences:
        say(sentence)
    return 0


def _explain(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands import several
    from tuner.commands.explain import explain
    from tuner.config import parse_duration
    from tuner.report import ladder

    folder = show.find(arguments.out, arguments.run)
    seconds = parse_duration(arguments.time_budget, "--time-budget")
    with shown_progress() as progress:
        told = explain(folder, arguments.kernel, seconds, progress)
        progress.phase("writing the report")
        several.rebuild_report(folder)
    table = ladder.table(told)
    say_table([table.headers, *table.rows])
    for line in ladder.text(told, arguments.code):
        say(printable(line))
    say(str(folder / ladder.FOLDER / f"{told['task']}.html"))
    return 0


def _report(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    from tuner.commands import several

    written, since = several.rebuild_report(folder)
    for line in (str(written), *(one.sentence for one in since)):
        say(line)
    return 0


def _export(arguments: argparse.Namespace, argv: list[str]) -> int:
    folder = show.find(arguments.out, arguments.run)
    from tuner.commands import several

    say(str(several.reexport(folder)))
    return 0


def _machine(arguments: argparse.Namespace, argv: list[str]) -> int:
    from pathlib import Path

    from tuner import environment
    from tuner.devices import resolve
    from tuner.devices.cpu import machine

    environment.check_versions()
    threads = _whole("--threads", arguments.threads) if arguments.threads else environment.usable_threads()
    with shown_progress() as progress:
        ceilings = machine.ceilings(Path(arguments.out), threads, progress, again=arguments.again)
    devices = [[kind.name, device] for kind in resolve.all_kinds() for device in kind.devices()]
    say_table([*machine.rows(ceilings), *devices])
    return 0


def _compare(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands import compare
    from tuner.config import parse_duration

    budget_s = parse_duration(arguments.time_budget, "--time-budget")
    with shown_progress() as progress:
        table, sentences = compare.compare(arguments.a, arguments.b, arguments.out, budget_s, progress)
    say_table(table)
    for sentence in sentences:
        say(sentence)
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
        say(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        rows = [[finding.state.upper(), finding.part, finding.found] for finding in findings]
        advice = [["", "", f"-> {finding.advice}"] if finding.advice else [] for finding in findings]
        say_table([row for pair in zip(rows, advice, strict=True) for row in pair if row])
    return doctor.exit_code(findings)


def _scan(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands.scan import emitted, scan

    if arguments.emit:
        say(emitted(Path(arguments.file)))
        return 0
    with shown_progress() as progress:
        table, sentences = scan(Path(arguments.file), progress)
    say_table(table)
    for sentence in sentences:
        say(sentence)
    return 0


def _bundle(arguments: argparse.Namespace, argv: list[str]) -> int:
    config = _load(arguments)
    from tuner.commands.bundle import bundle

    with shown_progress() as progress:
        lines = bundle(config, _count(arguments.count, "-n"), Path(arguments.output), progress, arguments.device)
    for line in lines:
        say(line)
    return 0


def _measure(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands.measure import measure

    chosen = None if arguments.gpus == "all" else [_count(n, "--gpus", 0) for n in arguments.gpus.split(",")]
    with shown_progress() as progress:
        lines, code = measure(Path(arguments.bundle), Path(arguments.output), arguments.runner, chosen, progress)
    for line in lines:
        say(line)
    return code


def _import(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands.import_ import import_measurements
    from tuner.config import MeasureConfig

    with shown_progress() as progress:
        lines = import_measurements(
            Path(arguments.measurements), arguments.database or MeasureConfig.database, progress
        )
    for line in lines:
        say(line)
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
    with shown_progress() as progress:
        results = simulate.compare(recordings, strategies, arguments.budget, arguments.seeds, earlier, progress.message)
    say_table(simulate.table(results))
    from tuner.report.simulation import curves

    picture = curves(simulate.curves(results))
    file = Path(arguments.picture)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture.png)
    except OSError as error:
        raise OutputError(f"--picture: cannot write {file}: {error}") from error
    say("")
    say(str(file))
    return 0


def _model(arguments: argparse.Namespace, argv: list[str]) -> int:
    from tuner.commands import model as training

    file = Path(arguments.file)
    if arguments.action == "show":
        say_table(training.description(file))
        return 0
    from tuner.store import SqlStore

    with SqlStore(arguments.database) as store:
        known = training.trials_by_task(store)
    if arguments.action == "eval":
        say_table(training.assessment(known))
        return 0
    model = training.train(known)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        model.save(file)
    except OSError as error:
        raise OutputError(f"{file}: the model cannot be written: {error}") from error
    say(f"{file}: learned from {sum(len(task.vectors) for task in known)} trials of {len(known)} tasks")
    return 0


def _load(arguments: argparse.Namespace) -> RunConfig:
    from tuner.config import load
    from tuner.devices import resolve

    given = {path: getattr(arguments, flag[2:].replace("-", "_")) for flag, (path, _, _) in FLAGS.items()}
    config = load(arguments.config, {path: _flag_value(path, text) for path, text in given.items() if text is not None})
    resolve.check_keys(config.target)
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


COMMANDS = {
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
    "simulate": (_simulate, "play search strategies against recorded spaces: no device needed"),
}
