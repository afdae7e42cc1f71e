"""The file of a night: which cells there are, how long a night may take, and what is told to whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tuner import strict_yaml
from tuner.config import Count, ModelBaseline, Seconds, read_file
from tuner.errors import ConfigError
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
    seed: int = 0
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


def load(path: str) -> NightConfig:
    """The night in a YAML file. Raises ConfigError, naming the key."""
    return parse(read_file(path, "file of a night"), path)


def parse(text: str, name: str) -> NightConfig:
    """The night in `text`; `name` stands for the file in messages. Raises ConfigError."""
    document = strict_yaml.load(text, name)
    if not isinstance(document, dict):
        raise ConfigError(name, f"expected a mapping with `cells`, not {show(document)}")
    check_keys(NightConfig, document)
    cells = document.get("cells")
    for number, cell in enumerate(cells if isinstance(cells, list) else ()):
        try:
            check_keys(CellConfig, cell)
        except ConfigError as error:
            raise ConfigError(f"cells[{number}].{error.path}", "unknown key", error.hint) from error
    config: NightConfig = read(NightConfig, document)
    _check(config)
    return config


def _check(config: NightConfig) -> None:
    if not config.cells:
        raise ConfigError("cells", "expected at least one cell")
    names = Counter(cell.name for cell in config.cells)
    for number, cell in enumerate(config.cells):
        path = f"cells[{number}]"
        if names[cell.name] > 1:
            raise ConfigError(f"{path}.name", f"{cell.name!r} names two cells", "a history needs a name of its own")
        if cell.kind == "space":
            if cell.space is None or cell.run is not None:
                raise ConfigError(f"{path}.space", "a cell of kind `space` has a file `space`, and no `run`")
        elif cell.run is None or cell.space is not None:
            raise ConfigError(f"{path}.run", f"a cell of kind `{cell.kind}` has a run file `run`, and no `space`")


def run_document(cell: CellConfig, database: str | None = None, seed: int | None = None) -> dict[str, Any]:
    """The run file of a cell as plain data: what its author wrote, and what a night changes in it.

    Defaults are not written out, so that an earlier commit of this program can read it too. Raises ConfigError.
    """
    assert cell.run is not None
    path = Path(cell.run)
    try:
        document = strict_yaml.load(path.read_text(encoding="utf-8-sig"), cell.run)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cell {cell.name}: run", f"{cell.run} cannot be read: {reason}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"cell {cell.name}: run", f"{cell.run} is no run file")
    if isinstance(document.get("target"), str) or {"kind", "tag"} & set(document.get("target") or {}):
        document["target"] = {"spec": document["target"]}
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
