"""What the baselines that take an ONNX model share: the model in memory, and converters to a runtime's own form."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner import files
from tuner.errors import InfrastructureError, ModelError

OnnxSource = Callable[[Mapping[str, Any]], Any]
"""From a model spec to an onnx.ModelProto, to the bytes of one, or to the path of one that is too large for that."""

CONVERT_S = 120.0
"""ResNet-50 takes 1 to 4 s; a converter that needs longer than this has lost its way."""

_SHOWN = 200  # characters of a converter's last line that an error repeats


def serialized(model: Any, baseline: str) -> bytes:
    """The model as bytes. Raises ModelError, naming the baseline, when it is too large for one message."""
    if isinstance(model, bytes):
        return model
    from tuner.importers.onnx_tensors import PROTOBUF_BYTES, complete, parameter_bytes

    if isinstance(model, Path) or parameter_bytes(model) > PROTOBUF_BYTES:
        raise ModelError(baseline, "the model is larger than 2 GiB, and this baseline reads it from one message only")
    data: bytes = complete(model).SerializeToString()
    return data


def bytes_or_path(model: Any, baseline: str) -> bytes | str:
    """The model as bytes, or the file that has it where it is too large for that. Raises ModelError."""
    return str(model) if isinstance(model, Path) else serialized(model, baseline)


def keep(model: Any, path: Path) -> None:
    """Write the model into a file, whatever its size; `kept` reads it."""
    if not isinstance(model, bytes):
        from tuner.importers.onnx_tensors import PROTOBUF_BYTES, parameter_bytes, write

        if parameter_bytes(model) > PROTOBUF_BYTES:
            write(model, path)
            return
    files.write_aside(path, serialized(model, "the model for baselines"))


def kept(path: Path) -> bytes | Path:
    """What `keep` wrote: its bytes, or its path where its weights lie beside it."""
    return path if path.with_name(path.name + ".data").exists() else path.read_bytes()


def plainly(model: Any, baseline: str) -> bytes:
    """The model as bytes, for converters that read every operator as the newest sets define it (of softmax before
    operator set 13 they make one over another axis) and know no `IsNaN`. Raises ModelError as `serialized` does."""
    from tuner.importers.onnx_plain import plain

    return plain(serialized(model, baseline))


def convert(converter: str, command: Sequence[str], result: Path) -> None:
    """Run a converter in the folder of `result`, a file that it writes.

    Raises InfrastructureError, with the last that it said, when it fails, writes nothing or takes over `CONVERT_S`.
    """
    try:
        done = subprocess.run(
            command, cwd=result.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=CONVERT_S,
            text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"{converter} did not convert the model within {CONVERT_S:.0f} s") from error
    if done.returncode != 0 or not result.exists():
        last = next((line.strip() for line in reversed(done.stdout.splitlines()) if line.strip()), "")
        raise InfrastructureError(
            f"{converter} cannot convert the model (exit code {done.returncode}): {last[:_SHOWN]}"
        )
