"""The file of a night: which cells there are, how long a night may take, and what is told to whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tuner import strict_yaml
from tuner.config import Count, ModelBaseline, Seconds, read_file
from tuner.errors import ConfigError, UserError
from tuner.schema import check_keys, read, show

USUAL = "configs/nightly.yaml"
"""The file that commands read where none is named."""


def _name(text: str) -> str:
    return "" if re.fullmatch(r"[A-Za-z0-9][\w.@+-]{0,63}", text) else "a name of letters, digits and . _ - + @"


def _database(text: str) -> str:
    return "" if re.fullmatch(r"[a-z][a-z0-9_+]*://.*", text) else "a database URL, e.g. sqlite:///records.db"


@dataclass(frozen=True)
class CellConfig:
    """One cell. `run`: the run file of a model or of a kernel (a model of one operator), `set`: keys of it that are
    other here, by dotted path (`target.threads: 1`). A recorded space has a file `space` instead.

    `budget_s`: seconds of search; `evaluations` and `seeds` are those of a recorded space. `baselines`: what is timed
    beside the model.
    """

    name: Annotated[str, _name]
    kind: Literal["model", "kernel", "space"] = "model"
    run: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    space: str | None = None
    strategy: str = "guided"
    budget_s: Seconds = 60.0
    evaluations: Count = 200
    seeds: Annotated[int, lambda n: "" if 2 <= n <= 100 else "a count from 2 to 100"] = 5
    seed: Annotated[int, lambda n: "" if 0 <= n < 2**31 else "a whole number from 0 to 2147483647"] = 0
    baselines: tuple[ModelBaseline, ...] = ()


@dataclass(frozen=True)
class NightConfig:
    """A night. `budget_s` is for all cells; `compare_s` for the interleaved comparison of one cell; `searches`: how
    many seeds have to agree before a slower search result counts. `on_regression` and `on_end` are commands with their
    arguments. `database` holds the history, `out` the artifacts, summaries and the site; `url`: where that will be
    published."""

    cells: tuple[CellConfig, ...]
    budget_s: Seconds = 3300.0
    compare_s: Seconds = 20.0
    searches: Annotated[int, lambda n: "" if 1 <= n <= 9 else "a count from 1 to 9"] = 3
    out: str = "results/nightly"
    database: Annotated[str, _database] = "sqlite:///results/records.db"
    url: str = ""
    on_regression: tuple[str, ...] = ()
    on_end: tuple[str, ...] = ()

    def cell(self, name: str) -> CellConfig | None:
        return next((cell for cell in self.cells if cell.name == name), None)


_KEYS: Mapping[str, tuple[str, ...]] = {
    "space": ("name", "kind", "space", "strategy", "evaluations", "seeds", "seed"),
    "model": ("name", "kind", "run", "set", "budget", "seed", "baselines"),
    "kernel": ("name", "kind", "run", "set", "budget", "seed", "baselines"),
}
"""The keys of each kind of cell."""

_INSTEAD = {
    "search.time_budget": "write the cell's `budget`", "search.seed": "write the cell's `seed`",
    "baselines.models": "write the cell's `baselines`", "out": "a night keeps what it needs under its own `out`",
    "measure.database": "a search of a night has a database of its own", "export.enabled": "a night measures exports",
}  # fmt: skip
"""Keys of a run file that a cell cannot set, each with what to do instead."""

_SECTIONS = ("search", "baselines", "measure", "report", "export")
"""Sections of a run file in which a night decides some keys."""

Refusal = tuple[str, UserError]
"""A cell, by its name, and what is wrong with it."""


def load(path: str) -> NightConfig:
    """The night in a YAML file. Raises ConfigError, naming file, cell and key of everything that is wrong."""
    return parse(read_file(path, "file of a night"), path)


def parse(text: str, name: str) -> NightConfig:
    """The night in `text`; `name` stands for the file in messages. Raises ConfigError."""
    config, refusals = examined(text, name)
    refuse(name, refusals)
    return config


def examined(text: str, name: str) -> tuple[NightConfig, list[Refusal]]:
    """The night in `text` with the cells that are right, and what is wrong with each of the others. Raises ConfigError
    for what is wrong with the night itself, and where no cell is right."""
    document = strict_yaml.load(text, name)
    if not isinstance(document, dict):
        raise ConfigError(name, f"expected a mapping with `cells`, not {show(document)}")
    refusals: list[Refusal] = []
    if isinstance(cells := document.get("cells"), list):
        found = [_refusal(number, cell) for number, cell in enumerate(cells, 1)]
        refusals = [one for one in found if one is not None]
        document["cells"] = [cell for cell, one in zip(cells, found, strict=True) if one is None]
        if not document["cells"]:
            refuse(name, refusals)
    try:
        check_keys(NightConfig, document)
        config: NightConfig = read(NightConfig, document)
        if not config.cells:
            raise ConfigError("cells", "expected at least one cell")
    except ConfigError as error:
        raise ConfigError(name, error.message, error.hint) from error
    names = Counter(cell.name for cell in config.cells)
    twice = ConfigError("name", "it names two cells", "a history needs a name of its own")
    return config, [*refusals, *((cell, twice) for cell, count in names.items() if count > 1)]


def refuse(file: str, refusals: Sequence[Refusal]) -> None:
    """Raise ConfigError that names the file of a night, and what is wrong with each of its cells; nothing where that is
    nothing."""
    if not refusals:
        return
    if len(refusals) == 1:
        [(cell, error)] = refusals
        raise ConfigError(file, f"cell {cell}: {error.message}", error.hint)
    lines = [f"  cell {cell}: {error.message}{f' ({error.hint})' if error.hint else ''}" for cell, error in refusals]
    raise ConfigError(file, "\n".join([f"{len(refusals)} things are wrong, and nothing was measured", *lines]))


def _refusal(number: int, cell: Any) -> Refusal | None:
    """What is wrong with the cell of a file, as far as it tells by itself; None where nothing is."""
    name = cell.get("name") if isinstance(cell, Mapping) else None
    try:
        check_keys(CellConfig, cell)
        read(CellConfig, cell)
        _check(cell)
    except ConfigError as error:
        return name if isinstance(name, str) else f"number {number}", error
    return None


def _check(cell: Mapping[str, Any]) -> None:
    """Raises ConfigError for a key that does nothing in a cell of this kind, and for one that it needs."""
    kind = cell.get("kind", CellConfig.kind)
    own, known = ("space" if kind == "space" else "run"), _KEYS[kind]
    has = f"it has a file `{own}`; its keys are {', '.join(known)}"
    for key in cell:
        if key not in known:
            raise ConfigError(key, f"a cell of kind `{kind}` has no `{key}`", has)
    if cell.get(own) in (None, "auto"):
        file = "file" if own == "space" else "run file"
        raise ConfigError(own, f"missing: a cell of kind `{kind}` has a {file} `{own}`")
    for dotted in cell.get("set") or ():
        if dotted in _INSTEAD:
            raise ConfigError(f"set.{dotted}", "a cell cannot set it", _INSTEAD[dotted])
        if dotted in _SECTIONS:
            raise ConfigError(f"set.{dotted}", "a whole section", f"write its keys one by one: {dotted}.KEY: ...")


def run_document(cell: CellConfig, database: str | None = None, seed: int | None = None) -> dict[str, Any]:
    """The run file of a cell as plain data: what its author wrote, and what a night changes in it.

    Defaults are not written out, so that an earlier commit of this program can read it too. Raises ConfigError.
    """
    assert cell.run is not None
    document = strict_yaml.load(read_file(cell.run, "run file"), cell.run)
    if not isinstance(document, dict):
        raise ConfigError(cell.run, f"expected a mapping of sections, not {show(document)}")
    target = document.get("target")
    if isinstance(target, str) or (isinstance(target, Mapping) and {"kind", "tag"} & target.keys()):
        document["target"] = {"spec": target}
    changes: dict[str, Any] = {
        "search.effort": "quick", "search.time_budget": cell.budget_s, "search.reuse": False,
        "search.seed": cell.seed if seed is None else seed, "baselines.models": [], "baselines.kernels": False,
        "report.formats": [],
    }  # fmt: skip
    changes |= dict(cell.set) | ({} if database is None else {"measure.database": database})
    document.pop("out", None)
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        inner = document
        for section in sections:
            if not isinstance(inner.get(section), dict):
                inner[section] = {}
            inner = inner[section]
        inner[key] = value
    return document
