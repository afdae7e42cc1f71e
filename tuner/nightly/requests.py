"""What a night is asked for, looked at before it begins: a wrong request is refused at once, for all cells together.

What depends on this machine alone, a device that is not here, is no wrong request: that cell is missing, with a reason.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from tuner import config as config_file
from tuner import strict_yaml
from tuner.errors import ConfigError, ModelError, TargetError, UserError
from tuner.nightly.config import CellConfig, Refusal, refuse, run_document
from tuner.nightly.keys import key_of
from tuner.nights import CellKey
from tuner.schema import did_you_mean

Keys = dict[str, tuple[CellKey, str]]
"""By a cell's name its key, and why it cannot be measured here ("": it can)."""


def keys_of(cells: Iterable[CellConfig], file: str, known: Sequence[Refusal] = ()) -> Keys:
    """The keys of cells in the file of a night. Raises ConfigError that names the file, and cell and key of everything
    that is wrong: run files, what is set in them, models, recorded spaces, strategies, targets; and what is `known`
    to be wrong with other cells."""
    keys: Keys = {}
    refusals = list(known)
    for cell in cells:
        try:
            keys[cell.name] = key_of(cell)
            _check_files(cell)
        except UserError as error:
            refusals.append((cell.name, _placed(cell, error)))
    refuse(file, refusals)
    return keys


def _placed(cell: CellConfig, error: UserError) -> UserError:
    """The error under the cell's key that it comes from."""
    if cell.kind == "space":
        return error if isinstance(error, ConfigError) else ConfigError("space", error.message, error.hint)
    path = _path(error)
    if any(f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}.") for key in cell.set):
        return ConfigError("set", error.message, error.hint)
    named = error.message.startswith(f"{cell.run}:")
    return ConfigError("run", error.message if named else f"{cell.run}: {error.message}", error.hint)


def _path(error: UserError) -> str:
    """The key of a run file that an error is of."""
    if isinstance(error, ConfigError):
        return error.path
    return "target.spec" if isinstance(error, TargetError) else "model.source"


def _check_files(cell: CellConfig) -> None:
    """Raises UserError for a recorded space, a model or inputs that are not there, and for an unknown strategy."""
    if cell.kind == "space":
        _check_space(cell)
        return
    config = config_file.parse(strict_yaml.dump(run_document(cell)), cell.run or "")
    _check_model(config.model.source)
    for key, file in (("model.data", config.model.data), ("accuracy.data", config.accuracy.data)):
        if file is not None and not Path(file).exists():
            raise ConfigError(key, f"{file}: no such file or folder")


def _check_space(cell: CellConfig) -> None:
    from tuner.search import STRATEGIES
    from tuner.simulate.recording import read

    if cell.strategy not in STRATEGIES:
        near = did_you_mean(cell.strategy, STRATEGIES) or f"there are: {', '.join(STRATEGIES)}"
        raise ConfigError("strategy", f"no strategy {cell.strategy!r}", near)
    read(Path(cell.space or ""))


def _check_model(source: str) -> None:
    """Raises ModelError where there is no such file, or no such callable in it. Nothing of a model is run."""
    kind, _, name = source.partition(":")
    if kind == "onnx":
        from tuner.importers.onnx_file import locate

        locate(source)
    elif kind == "torch":
        module, _, attribute = name.partition(":")
        _check_callable(source, module, attribute)
    elif not Path(name).is_file():
        raise ModelError(source, "no such file")


def _check_callable(source: str, module: str, attribute: str) -> None:
    """A module that is a file here has to hold the name; what lies elsewhere, or makes its names, tells later."""
    file = Path(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        try:
            known = importlib.util.find_spec(module.partition(".")[0]) is not None
        except (ImportError, ValueError):
            known = False
        if not known:
            raise ModelError(source, f"there is no module {module}", "it is looked for from here")
        return
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise ModelError(source, f"{file} cannot be read: {error}") from error
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names |= {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    if attribute not in names and not names & {"*", "__getattr__"}:
        public = sorted(name for name in names if not name.startswith("_"))
        raise ModelError(source, f"{attribute} does not exist in {module}", did_you_mean(attribute, public))
