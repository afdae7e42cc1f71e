"""YAML as run files use it: nothing that makes objects, no repeated keys, no aliases."""

from __future__ import annotations

import reprlib
from typing import Any

import yaml

from tuner.errors import ConfigError


def load(text: str, name: str) -> Any:
    """The document in `text`; `name` stands for the file in messages. Raises ConfigError."""
    try:
        return _StrictLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(name, f"not valid YAML: {where}{error.problem or error.context}") from error
    except RecursionError as error:
        raise ConfigError(name, "not a run file: nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        # The last four: PyYAML's own constructors on `2026-13-45`, `!!bool x`, `!!timestamp x` and the like.
        raise ConfigError(name, f"not valid YAML: {reprlib.repr(str(error))}") from error


def dump(data: Any) -> str:
    """Plain data as YAML, keys in their order, lists on one line."""
    text: str = yaml.dump(data, Dumper=_InlineLists, sort_keys=False, width=100)
    return text


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that also refuses repeated keys, and aliases (a small file can unfold into a huge one)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        events: Any = self  # the stubs leave these methods untyped
        if events.check_event(yaml.AliasEvent):
            mark = events.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not supported", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


class _InlineLists(yaml.SafeDumper):
    """A safe dumper that writes lists on one line."""

    def represent_list(self, data: Any) -> Any:
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_InlineLists.add_representer(list, _InlineLists.represent_list)
