"""summary.json, schema 1: the file from which the report is computed, together with the records.

Any number may be null (it was not measured: the run was interrupted, a baseline was missing). Unknown
extra keys are kept, so a later version may add some; a missing or broken one is an error that names
the file and the field. Keys that were renamed are written under both names (`ALIASES`), and read under either.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tuner.errors import UserError
from tuner.files import write_aside
from tuner.records import CpuState, Label

SCHEMA = 1
FILE = "summary.json"

NOT_TUNED = "NOT TUNED"
"""Stands for the verdict of a kernel that has no tuned candidate."""

VERDICTS = (*Label, NOT_TUNED)

ALIASES = {"shrank": "remeasurement_shift", "certificate": "metadata", "tier": "fidelity"}
"""Old keys of a kernel (`tier`: of its metadata) with their new names, stated in the file as `aliases`."""

Check = Callable[[str, object], None]
"""Looks at one value; the first argument is its path, for the error."""


class _Invalid(Exception):
    """A field is not what the schema says; becomes a UserError with the file's name."""


def validate(data: Mapping[str, Any], file: str = FILE) -> None:
    """Raise UserError, naming `file` and the first wrong field, unless `data` is a summary of schema 1."""
    try:
        if isinstance(data, Mapping) and "schema" in data and data["schema"] != SCHEMA:
            _fail("schema", f"{SCHEMA}, the only one this version reads", data["schema"])
        _SUMMARY("", data)
    except _Invalid as error:
        raise UserError(
            f"{file}: {error}", "the file is damaged or of another version; run the command again"
        ) from None


def save(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Check `summary` and write it as strict JSON, atomically, renamed keys under both names.

    Raises UserError or OutputError.
    """
    path = run_dir / FILE
    validate(summary, str(path))
    try:
        text = json.dumps(_with_old_names(summary), indent=1, allow_nan=False)
    except ValueError as error:  # a NaN or an infinity in a field the schema leaves open
        raise UserError(f"{path}: {error}", "write null for a number that does not exist") from error
    write_aside(path, text.encode() + b"\n")
    return path


def load(run_dir: Path) -> dict[str, Any]:
    """The checked summary of a run, under the new names only, also where an earlier version wrote it.

    Raises UserError, naming the file, when there is none or it is broken; of a run that did not end, how to go on.
    """
    path = run_dir / FILE
    try:
        data = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        config = run_dir / "config.yaml"
        if not config.exists():
            raise UserError(f"{path}: {error.strerror}", "is this the folder of a run?") from error
        go_on = f"python -m tuner run {shlex.quote(str(config))} --resume {run_dir.name}"
        raise UserError(f"run {run_dir.name} did not end, or still goes on: it has no summary", go_on) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "is this the folder of a run?") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply to be a summary") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError included
        raise UserError(f"{path}: not JSON: {error}", "the file is damaged; run the command again") from error
    validate(data, str(path))
    return _with_new_names(data)


def damaged(run_dir: Path) -> bool:
    """Whether there is a summary that cannot be read; a missing one or one of another schema is not damaged."""
    try:
        load(run_dir)
    except UserError:
        try:
            stated = json.loads((run_dir / FILE).read_bytes())
        except OSError:
            return False
        except (ValueError, RecursionError):
            return True
        return not isinstance(stated, dict) or stated.get("schema") == SCHEMA
    return False


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


# --- renamed keys -------------------------------------------------------------------------------


def _with_old_names(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary as it is written: what was renamed also stands under its old name."""
    kernels = []
    for kernel in summary["kernels"]:
        old = _old_names(kernel)
        if kernel.get("metadata"):
            old["certificate"] = {**kernel["metadata"], **_old_names(kernel["metadata"])}
        kernels.append({**kernel, **old})
    return {**summary, "aliases": ALIASES, "kernels": kernels}


def _old_names(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {old: stated[new] for old, new in ALIASES.items() if new in stated}


def _with_new_names(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary that was read, under the new names alone. Where both stand, the new one counts."""
    kernels = [_new_names(kernel) for kernel in summary["kernels"]]
    for kernel in kernels:
        if kernel.get("metadata"):
            kernel["metadata"] = _new_names(kernel["metadata"])
    return {key: value for key, value in summary.items() if key != "aliases"} | {"kernels": kernels}


def _new_names(stated: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {ALIASES[key]: value for key, value in stated.items() if key in ALIASES}
    return renamed | {key: value for key, value in stated.items() if key not in ALIASES}


# --- the schema ---------------------------------------------------------------------------------


def _fail(path: str, expected: str, value: object) -> NoReturn:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise _Invalid(f"{path or 'the file'}: expected {expected}, found {shown}")


# No measurement lies outside, and products and ratios of numbers inside cannot overflow. NaN fails both.
_SMALLEST, _LARGEST, _FINITE = 1e-15, 1e30, 1.7e308


def _text(path: str, value: object) -> None:
    if not isinstance(value, str):
        _fail(path, "text", value)


def _flag(path: str, value: object) -> None:
    if not isinstance(value, bool):
        _fail(path, "true or false", value)


def _number(path: str, value: object, most: float = _LARGEST) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        _fail(path, "a finite number >= 0", value)


def _change(path: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1 <= value <= _LARGEST:
        _fail(path, "a finite number >= -1", value)


def _positive(path: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _SMALLEST <= value <= _LARGEST:
        _fail(path, "a finite number > 0", value)


def _any_number(path: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        _fail(path, "a finite number", value)


def _count(path: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _fail(path, "a whole number >= 0", value)


def _interval(path: str, value: object) -> None:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        _fail(path, "two numbers, low and high", value)
    for index, end in enumerate(value):
        _positive(f"{path}[{index}]", end)
    if value[0] > value[1]:
        _fail(path, "low <= high", value)


def _verdict(path: str, value: object) -> None:
    if value not in VERDICTS:
        _fail(path, f"one of {', '.join(VERDICTS)}", value)


def _state(path: str, value: object) -> None:
    if value not in tuple(CpuState):
        _fail(path, f"one of {', '.join(CpuState)}", value)


def _any_mapping(path: str, value: object) -> None:
    if not isinstance(value, Mapping):
        _fail(path, "a mapping", value)


def _maybe(check: Check) -> Check:
    def run(path: str, value: object) -> None:
        if value is not None:
            check(path, value)

    return run


def _list_of(check: Check) -> Check:
    def run(path: str, value: object) -> None:
        if isinstance(value, str) or not isinstance(value, Sequence):
            _fail(path, "a list", value)
        for index, item in enumerate(value):
            check(f"{path}[{index}]", item)

    return run


def _mapping_of(check: Check) -> Check:
    def run(path: str, value: object) -> None:
        if not isinstance(value, Mapping):
            _fail(path, "a mapping", value)
        for key, item in value.items():
            check(f"{path}.{key}", item)

    return run


def _fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    extra = optional or {}

    def run(path: str, value: object) -> None:
        if not isinstance(value, Mapping):
            _fail(path, "a mapping", value)
        prefix = f"{path}." if path else ""
        for key in required:
            if key not in value:
                raise _Invalid(f"{prefix}{key}: missing")
        for key, check in (*required.items(), *extra.items()):
            if key in value:
                check(f"{prefix}{key}", value[key])

    return run


_MEASURED = {
    "ratio": _maybe(_positive),
    "searched_s": _maybe(_positive),
    "remeasurement_shift": _maybe(_change),
    "ties": _list_of(_text),
    "metadata": _maybe(_mapping_of(_text)),
    "baseline_verdicts": _mapping_of(_verdict),
    "shrank": _maybe(_change),
    "certificate": _maybe(_mapping_of(_text)),
}
"""How a kernel's result was measured; optional.

`ratio` is the time of the best candidate over the untuned one's, from the comparison that gave the verdict.
`remeasurement_shift` is by what part of `searched_s`, the search's time, the final time differs from it. `ties` are
the finalists that this machine cannot tell from the winner.
"""
_BOUNDS = {"lower_bound_s": _maybe(_number), "cold_bytes": _maybe(_count)}
"""Of one call of a kernel; optional. `cold_bytes`: of its constants, what comes from memory inside the model."""
_COMPUTED = {"arithmetic": _text}
"""The peak of the ceilings that a kernel is held against: a dtype, where tensor cores are used with that; optional."""
_KEPT = {"untuned_candidate": _maybe(_text)}
"""Optional: the build of TVM's own program that was checked and is in the model, where no candidate is."""
_TOTAL = {"calls": _count, "seconds": _number}
_ACCOUNT = _fields(
    {
        "end_to_end_s": _positive,
        "kernels": _list_of(_fields({"symbol": _text, "task": _maybe(_text), **_TOTAL})),
        "memory": _fields(_TOTAL),
        "runtime": _fields(_TOTAL),
    },
    {"inferences": _count},
)
"""Where the time of one inference went; optional. `seconds` are of all calls together; all of them add up to the time
end to end, which was measured beside them."""
_NODE = _fields({"operator": _text, "node": _text, "reason": _text, "follows": _flag})
_PART = _fields({"kind": _text, "seconds": _maybe(_number), "nodes": _list_of(_NODE)})
"""The parts of a model with islands, in the order in which they run; optional. `kind` is `tuned` or `island`, `seconds`
are of one inference; `nodes` are those of islands, and `follows` says of a node that it is there because of others."""
_MODEL = {"name": _text, "source": _text, "batch": _maybe(_count), "inputs": _mapping_of(_list_of(_count))}
_TARGET = {
    "kind": _text,
    "device": _maybe(_text),
    "threads": _maybe(_count),
    "features": _maybe(_list_of(_text)),
}
_CAVEATS = _mapping_of(_mapping_of(_text))
"""What the times of the target's device are, where they are not its own, as `tuner.caveats.Caveats`; optional."""
_SEARCH = {
    "strategy": _text,
    "trials": _maybe(_count),
    "measured": _maybe(_count),
    "reused": _maybe(_count),
    "failed": _mapping_of(_maybe(_count)),
    "wall_s": _maybe(_number),
    "stopped_by": _maybe(_text),
}
_COUNTS = {"counts": _mapping_of(_count)}
"""What was measured, by purpose; optional. They add up to `measured`: screenings of candidates and of untuned programs,
and what was measured again at each other fidelity."""
_KERNEL = {
    "task": _text,
    "name": _text,
    "weight": _maybe(_number),
    "flops": _maybe(_number),
    "bytes": _maybe(_number),
    "untuned_s": _maybe(_positive),
    "tuned_s": _maybe(_positive),
    "interval_s": _maybe(_interval),
    "baselines": _mapping_of(_maybe(_positive)),
    "verified": _maybe(_flag),
    "verdict": _maybe(_verdict),
    "candidate": _maybe(_text),
}
_BASELINE = _fields({"median_s": _maybe(_positive), "interval_s": _maybe(_interval)}, {"verdict": _maybe(_verdict)})
_END_TO_END = {
    "untuned_s": _maybe(_positive),
    "tuned_s": _maybe(_positive),
    "interval_s": _maybe(_interval),
    "baselines": _mapping_of(_maybe(_BASELINE)),
    "verified": _maybe(_flag),
    "max_abs_error": _maybe(functools.partial(_number, most=_FINITE)),
    "max_rel_error": _maybe(functools.partial(_number, most=_FINITE)),
}
_ENTRIES = _mapping_of(
    _fields({"median_s": _maybe(_positive), "interval_s": _maybe(_interval), "verdict": _maybe(_verdict),
             "ratio": _maybe(_positive)})
)  # fmt: skip
"""By entry its time, and the verdict on the tuned model against it with the ratio of the same pairs; both null for the
tuned model itself."""
_IN_STATE = _fields({"round_trip_s": _maybe(_positive), "noise_floor": _maybe(_number), "entries": _ENTRIES})
_COMPARED = {
    "verdicts": _mapping_of(_verdict),
    "ratios": _mapping_of(_maybe(_positive)),
    "noise_floor": _maybe(_number),
    "state": _maybe(_state),
    "mixed": _list_of(_text),
    "states": _mapping_of(_IN_STATE),
    "first_calls": _ENTRIES,
    "load_s": _mapping_of(_maybe(_number)),
    "peak_bytes": _mapping_of(_maybe(_count)),
}
"""The tuned model against each baseline and `untuned`; optional. `ratios` are its time over theirs, from the paired
comparison that gave the verdict. `state` is the machine's state that these and the times are of, null where it has but
one; of the entries in `mixed` they are of all states together. `states` has the same for every state in which there
were blocks enough, `first_calls` for the first call after a rest, in the state `state`."""
_INPUTS = _fields(
    {"sets": _list_of(_text)},
    {"data": _fields({"path": _text, "sha256": _text}), "seeds": _list_of(_count), "drawn": _mapping_of(_text)},
)
"""Where the inputs of the whole model are from; optional. `sets`: their names, the first is that of the timing; with
the file or folder of `data` and its SHA-256, or with the `seeds` and how each input is `drawn`, in words."""
_LAYER = _fields({"name": _text, "precision": _text, "error": _maybe(_number)})
_OUTPUT_ERROR = _fields({"relative": _maybe(_number), "largest": _maybe(_number), "cosine": _maybe(_change)})
_QUALITY = _fields(
    {
        "samples": _count, "errors": _list_of(_OUTPUT_ERROR), "agreement": _maybe(_number), "metric": _text,
        "score": _maybe(_any_number), "bound": _maybe(_any_number), "met": _maybe(_flag), "data": _text,
    }
)  # fmt: skip
_PRECISION = _fields(
    {"asked": _text, "layers": _list_of(_LAYER), "quality": _maybe(_QUALITY), "entries": _mapping_of(_text)},
    {"errors": _mapping_of(_maybe(_number)), "mixes": _list_of(_fields({"seconds": _number, "error": _number}))},
)
"""In what layers compute and how good the outputs are; optional. `entries` says what baselines compute in, `errors` are
those of each entry's outputs against float64, relative, and `mixes` are what `auto` looked at."""
_SUMMARY = _fields(
    {
        "schema": _count,
        "run_id": _text,
        "command": _text,
        "seed": _maybe(_count),
        "model": _fields(_MODEL),
        "target": _fields(_TARGET, {"caveats": _CAVEATS}),
        "search": _fields(_SEARCH, _COUNTS),
        "kernels": _list_of(_fields(_KERNEL, {"shape": _maybe(_text), **_MEASURED, **_BOUNDS, **_COMPUTED, **_KEPT})),
        "end_to_end": _maybe(_fields(_END_TO_END, _COMPARED)),
        "export": _maybe(_fields({"path": _text, "sha256": _text})),
        "environment": _maybe(_any_mapping),
    },
    {
        "ceilings": _maybe(
            _fields(
                {"peak_flops_per_s": _maybe(_positive), "bandwidth_bytes_per_s": _maybe(_positive)},
                {"peaks": _mapping_of(_positive), "source": _text},
            )
        ),
        "notes": _list_of(_text),
        "account": _maybe(_ACCOUNT),
        "inputs": _maybe(_INPUTS),
        "parts": _list_of(_PART),
        "precision": _maybe(_PRECISION),
    },
)
