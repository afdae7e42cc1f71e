"""What the manifest of an export must say, field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tuner.schema import read

SCHEMA = 1

SIMULATED = "simulated_cuda"
"""The device of a model for the simulated GPU, which TVM takes for one of CUDA."""


def _extents(shape: tuple[int, ...]) -> str:
    return "" if all(0 <= extent < 2**31 for extent in shape) else "extents from 0 to 2^31"


def _digest(text: str) -> str:
    return "" if re.fullmatch("[0-9a-f]{64}", text) else "64 hexadecimal digits"


def _device(name: str) -> str:
    import tvm

    known = re.fullmatch("[a-z_]+", name) is not None
    if known:
        try:
            tvm.device(name)
        except ValueError:
            known = False
    return "" if known or name == SIMULATED else f"the name of a TVM device, or {SIMULATED}"


def _count(count: int) -> str:
    return "" if 1 <= count <= 4096 else "a value from 1 to 4096"


@dataclass(frozen=True)
class _Tensor:
    shape: Annotated[tuple[int, ...], _extents]
    dtype: Literal[
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16",
        "float32", "float64", "string",
    ]  # fmt: skip
    name: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a manifest says, as `tuner.schema` reads it."""

    model: str
    library: Literal["model.so", "model.json"]
    sha256: Annotated[str, _digest]
    function: str
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    target: str
    device: Annotated[str, _device]
    threads: Annotated[int, _count]
    versions: Mapping[str, str]


def _part_file(name: str) -> str:
    return "" if re.fullmatch(r"model(_\d+)?\.so|island_\d+\.onnx", name) else "model.so, model_N.so or island_N.onnx"


@dataclass(frozen=True)
class _Segment:
    kind: Literal["tuned", "island"]
    file: Annotated[str, _part_file]
    sha256: Annotated[str, _digest]
    function: str = ""
    inputs: tuple[_Tensor, ...] = ()
    outputs: tuple[_Tensor, ...] = ()
    nodes: tuple[str, ...] = ()


def _known_extents(shape: tuple[int | None, ...] | None) -> str:
    return _extents(tuple(extent for extent in shape or () if extent is not None))


@dataclass(frozen=True)
class _Output:
    """Of a model with islands: what only a run tells is None."""

    name: str
    dtype: str
    shape: Annotated[tuple[int | None, ...] | None, _known_extents] = None


@dataclass(frozen=True)
class ManifestOfParts(Manifest):
    """With `segments`, the manifest of a model with islands."""

    outputs: tuple[_Output, ...]  # type: ignore[assignment]
    segments: tuple[_Segment, ...]


def stated_in(manifest: Any) -> Manifest:
    """What a manifest says. Raises ValueError or ConfigError, naming the field."""
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise ValueError("schema is missing or of another version")
    stated: Manifest = read(ManifestOfParts if "segments" in manifest else Manifest, manifest)
    return stated
