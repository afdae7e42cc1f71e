"""The key of a cell on this machine, and whether it can be measured here at all."""

from __future__ import annotations

import hashlib
import json

from tuner import config as config_file
from tuner import strict_yaml
from tuner.config import RunConfig
from tuner.errors import ConfigError, MissingDevice, MissingPackage
from tuner.nightly.config import CellConfig, run_document
from tuner.nights import CellKey, CellKind


def key_of(cell: CellConfig) -> tuple[CellKey, str]:
    """The key of a cell, and why it cannot be measured here: "" where it can, e.g. "no GPU ..." where not.

    A run file's digest is part of the key: with another run file it is another cell. Raises UserError for what is wrong
    with the cell's request, as far as files and settings tell: see `requests`.
    """
    if cell.kind == "space":
        source = f"{cell.space}#{_digest(_read(cell.space or ''))}"
        budget = f"{cell.evaluations} evaluations of {cell.strategy}, {cell.seeds} seeds"
        return CellKey(cell.name, CellKind.SPACE, source, budget=budget, seed=cell.seed), ""
    document = run_document(cell)
    config = config_file.parse(strict_yaml.dump(document), cell.run or "")
    if not config.export.enabled:
        raise ConfigError("export.enabled", "false, and a night measures what is exported", "leave it out")
    source = f"{config.model.source}#{_digest(json.dumps(document, sort_keys=True).encode())}"
    spec = config.target.spec
    key = CellKey(
        cell.name, CellKind(cell.kind), source, _shape(config), "", spec if isinstance(spec, str) else json.dumps(spec),
        config.target.threads or 0, f"{cell.budget_s:g} s", cell.seed,
    )  # fmt: skip
    try:
        return _on(key, _device(config)), ""
    except (MissingDevice, MissingPackage) as error:
        return key, error.message


def _device(config: RunConfig) -> str:
    from tuner.devices import resolve

    target = resolve.resolve(config.target)
    return f"{target.device}, {target.threads} threads"


def _on(key: CellKey, device: str) -> CellKey:
    return CellKey.from_json(key.to_json() | {"device": device})


def _shape(config: RunConfig) -> str:
    model = config.model
    parts = [f"batch {model.batch}"] if model.batch else []
    parts += [f"{name} {'x'.join(map(str, shape))}" for name, shape in sorted(model.inputs.items())]
    return ", ".join([*parts, *(f"{name}={extent}" for name, extent in sorted(model.dims.items()))])


def _read(path: str) -> bytes:
    from tuner.errors import UserError

    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "give the file of a recorded space") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
