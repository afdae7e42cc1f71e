"""A model as it came in: its inputs and outputs, the parts it runs in, and what was made narrower in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class InputSpec:
    """A named model input."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class InputSet:
    """Inputs of a model in its order. `name` tells people where they are from; `expected`: the outputs that came with
    them, of the model's original weights."""

    name: str
    arrays: tuple[NDArray[Any], ...]
    expected: tuple[NDArray[Any], ...] | None = None


@dataclass(frozen=True)
class OutputSpec:
    """A named model output; None where an extent, or the whole shape, is known only when the model runs."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class KeptOut:
    """Why a node of a model is in an island. `node` names it as messages do; `follows` where the reason are the nodes
    around it, and not itself."""

    operator: str
    node: str
    reason: str
    follows: bool = False

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}"


@dataclass(frozen=True)
class Segment:
    """A part of a model that runs as a whole, between values of these names.

    `island` is None for a tuned part. It is an ONNX model for ONNX Runtime where the part cannot be lowered, and
    `nodes` then are its nodes.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    island: bytes | None = None
    nodes: tuple[KeptOut, ...] = ()


@dataclass(frozen=True)
class ModelPlan:
    """The parts of a model of which some cannot be lowered, in the order in which they run."""

    segments: tuple[Segment, ...]
    outputs: tuple[OutputSpec, ...]

    @property
    def tuned(self) -> tuple[Segment, ...]:
        return tuple(segment for segment in self.segments if segment.island is None)


@dataclass(frozen=True)
class LayerPrecision:
    """In what a layer computes; `error` is what narrower operands cost it, relative to what it gives in float64."""

    name: str
    precision: str
    error: float | None = None


@dataclass(frozen=True)
class Reduced:
    """What is narrower in a model than its author made it.

    `precision` is that of the run file, `unit` the unit roundoff of its operands, where these are floats. `whole` is
    the spec of the model as it was, where the one that is tuned is another (a quantized one); `layers` are those that
    might be narrower. `mixes`: what was looked at, as (predicted seconds, relative error).
    """

    precision: str
    unit: float = 0.0
    whole: Mapping[str, Any] | None = None
    layers: tuple[LayerPrecision, ...] = ()
    mixes: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class ImportedModel:
    """A model ready to be lowered.

    `module` is a relax IRModule with one function `main`, weights bound as constants, operators as
    the framework wrote them (cleaning is `tuner.graph`'s work). `model_spec` is JSON-able data from which
    a child process can make the same model again, weights included: what the baselines are given. `notes` are
    sentences for the report: by which way the model came in, and what it has that the user's own has not.

    With a `plan`, `main` has the tuned parts side by side: it takes the inputs of the first, then those of the second,
    and returns their outputs in the same order. `inputs` are those of the whole model all the same.

    `reduced`: it was made narrower than it came; `module` then is the narrower one.
    """

    name: str
    source: str
    module: Any
    inputs: tuple[InputSpec, ...]
    model_spec: Mapping[str, Any]
    plan: ModelPlan | None = None
    notes: tuple[str, ...] = ()
    reduced: Reduced | None = None
