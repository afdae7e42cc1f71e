"""Plain data (what YAML and JSON hold) as frozen dataclasses, by walking their type hints, and back.

The hints are the schema: `int`, `Literal[...]`, `X | None`, `tuple[X, ...]`, `Mapping[str, X]`, other
dataclasses (sections), and `Annotated` with rules. A field that ends in `_s` is seconds and is spelt
without the `_s`; None is spelt `auto`. What does not fit is a `ConfigError` with its dotted path.
"""

from __future__ import annotations

import difflib
import functools
import math
import reprlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tuner.errors import ConfigError

Rule = Callable[[Any], str]
"""From a value to what was expected, "" when the value keeps the rule. Stands in `Annotated`."""

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class ReadBy:
    """Stands in `Annotated`: how to read the value, given it and its path, instead of by its type."""

    read: Callable[[Any, str], Any]


def check_keys(root: Any, value: Any) -> None:
    """Raises ConfigError when a section of `value`, read as the dataclass `root`, has a key that it does not know."""
    known_paths = {path.rpartition(".")[2]: path for path in paths(root)}

    def visit(kind: Any, value: Any, prefix: str) -> None:
        names = _names(kind)
        for key in value if isinstance(value, Mapping) else ():
            if key not in names:
                elsewhere = f"did you mean {known_paths[key]}?" if key in known_paths else ""
                hint = elsewhere or did_you_mean(key, names) or f"known here: {', '.join(names)}"
                raise ConfigError(f"{prefix}{key}", "unknown key", hint)
            if is_dataclass(hint_of := _hints(kind)[names[key]]):
                visit(hint_of, value[key], f"{prefix}{key}.")

    visit(root, value, "")


def read(kind: Any, value: Any, path: str = "") -> Any:
    """`value` as `kind`, a type hint. Raises ConfigError. Unknown keys are ignored; see `check_keys`."""
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _read_section(kind, value, path)
    if origin is Annotated:
        return _read_annotated(args[0], args[1:], value, path)
    if origin in (Union, types.UnionType):
        return _read_union(args, value, path)
    if origin is Literal:
        if isinstance(value, str) and value in args:
            return value
        raise ConfigError(path, f"expected one of {', '.join(args)}, not {show(value)}", did_you_mean(value, args))
    if origin is tuple:
        _expect(list | tuple, "a list", value, path)
        return tuple(read(args[0], item, f"{path}[{number}]") for number, item in enumerate(value))
    if origin is Mapping:
        _expect(Mapping, "a mapping", value, path)
        return {read(str, key, path): read(args[1], item, f"{path}.{key}") for key, item in value.items()}
    return _read_json(value, path) if kind is Any else _read_scalar(kind, value, path)


def plain(value: Any) -> Any:
    """What YAML can hold: the inverse of `read`."""
    if is_dataclass(value):
        return {spelling: plain(getattr(value, name)) for spelling, name in _names(type(value)).items()}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return "auto" if value is None else value


def show(value: Any) -> str:
    """A value in a message: short, whatever it is."""
    if isinstance(value, Mapping):
        return "a mapping"
    return "nothing" if value is None else reprlib.repr(value)


def did_you_mean(value: Any, known: Iterable[str]) -> str:
    """`did you mean 'trials'?`, or nothing when nothing known is near."""
    near = difflib.get_close_matches(str(value)[:100], list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""


def _read_section(kind: Any, value: Any, path: str) -> Any:
    value = {} if value is None else value  # `search:` with nothing under it
    _expect(Mapping, "a mapping", value, path)
    result = {}
    for key, name in _names(kind).items():
        hint = _hints(kind)[name]
        where = f"{path}.{key}" if path else key
        if key in value or is_dataclass(hint):
            result[name] = read(hint, value.get(key), where)
        elif name in _required(kind):
            raise ConfigError(where, "missing, and it has no default")
    return kind(**result)


def _read_annotated(base: Any, marks: tuple[Any, ...], value: Any, path: str) -> Any:
    for reader in (mark for mark in marks if isinstance(mark, ReadBy)):
        value = reader.read(value, path)
    result = read(base, value, path)
    for rule in (mark for mark in marks if not isinstance(mark, ReadBy)):
        if expected := rule(result):
            raise ConfigError(path, f"expected {expected}, not {show(value)}")
    return result


def _read_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    """None is `auto`; a mapping or a list goes to the member that is one; anything else to the first member."""
    if type(None) in kinds and value in (None, "auto"):
        return None
    wanted = Mapping if isinstance(value, Mapping) else tuple if isinstance(value, list | tuple) else None
    fitting = [kind for kind in kinds if wanted is not None and _origin(kind) is wanted]
    return read(fitting[0] if fitting else kinds[0], value, path)


def _origin(kind: Any) -> Any:
    """That of the type under its rules."""
    return get_origin(get_args(kind)[0] if get_origin(kind) is Annotated else kind)


def _read_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is kind and (kind is not float or math.isfinite(value)):
        return value
    hint = f"write it in quotes: '{value}'" if kind is str and isinstance(value, int | float) else ""
    raise ConfigError(path, f"expected {_WORDS[kind]}, not {show(value)}", hint)


def _read_json(value: Any, path: str) -> Any:
    """Anything that JSON can hold, copied."""
    if isinstance(value, Mapping):
        return {read(str, key, path): _read_json(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_read_json(item, f"{path}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ConfigError(path, f"expected text, a number, true or false, a list or a mapping, not {show(value)}")


def _expect(kind: Any, words: str, value: Any, path: str) -> None:
    if not isinstance(value, kind):
        raise ConfigError(path, f"expected {words}, not {show(value)}")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _names(kind: Any) -> dict[str, str]:
    """The spelling of each field in a file -> its name."""
    return {spec.name.removesuffix("_s"): spec.name for spec in fields(kind)}


def _required(kind: Any) -> set[str]:
    return {spec.name for spec in fields(kind) if spec.default is MISSING and spec.default_factory is MISSING}


def paths(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted path below a dataclass; its own keys last, so that they win where a name is used twice."""
    for spelling, name in _names(kind).items():
        if is_dataclass(_hints(kind)[name]):
            yield from paths(_hints(kind)[name], f"{prefix}{spelling}.")
    yield from (f"{prefix}{spelling}" for spelling in _names(kind))
