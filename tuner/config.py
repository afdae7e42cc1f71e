"""The run file: YAML in, one frozen `RunConfig` out. The only place that reads configuration.

The dataclasses below are the whole schema: their field types say what is legal, their defaults are
the defaults. A field that ends in `_s` is seconds, and is written in the file without the `_s`, as a
duration (`time_budget: 10m`). A field that may be None is written `auto`. Whatever is refused is a
`ConfigError` with the key's dotted path, what was expected, and what was probably meant.

Nothing but the standard library is imported before a file is read: measuring a bundle needs settings and no YAML.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from tuner.errors import ConfigError
from tuner.metrics import LESS_IS_BETTER
from tuner.schema import ReadBy, Rule, check_keys, plain, read, show

MAX_FILE_BYTES = 1_000_000
MAX_ELEMENTS = 2**31  # of one input; TVM's default index type is 32 bits wide
MAX_SECONDS = 30 * 86400.0

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}
_DURATION = re.compile(r"\d{1,9}(\.\d{1,9})?|(\d{1,9}(\.\d{1,9})?[hms])+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([hms]?)", re.ASCII)

# --- rules ---------------------------------------------------------------------------------------


def _between(low: float, high: float) -> Rule:
    return lambda value: "" if low <= value <= high else f"a value from {low} to {high}"


def _matching(pattern: str, words: str) -> Rule:
    return lambda value: "" if re.fullmatch(pattern, value) else words


def _distinct(values: tuple[Any, ...]) -> str:
    return "" if len(set(values)) == len(values) else "every entry once"


def _some(values: tuple[Any, ...]) -> str:
    return "" if values else "at least one entry"


def _different(values: tuple[Any, ...]) -> str:
    return "" if all(value not in values[:index] for index, value in enumerate(values)) else "every entry once"


def _each_some(values: tuple[Any, ...]) -> str:
    return "" if all(values) else "in each entry an input's shape or a symbol's extent"


def _shape(shape: tuple[int, ...]) -> str:
    if any(extent < 0 for extent in shape):
        return "extents of at least 0"
    return "" if math.prod(shape) <= MAX_ELEMENTS and len(shape) <= 16 else "at most 16 extents and 2^31 elements"


def parse_duration(value: object, path: str = "") -> float:
    """Seconds, above 0 and at most 30 days, in `"10m"`, `"90s"`, `"1h30m"` or a plain number of seconds.

    Raises ConfigError at `path`.
    """
    seconds = math.nan
    if isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(value))
    elif type(value) in (int, float):
        seconds = float(value) if abs(value) <= MAX_SECONDS else math.inf  # type: ignore[arg-type]
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(path, f"expected a duration (10m, 90s, 1h30m or 600; at most 30 days), not {show(value)}")
    return seconds


def _one_size(value: object, path: str) -> object:
    """A size that is one number. Raises ConfigError for ranges and lists, with what to write."""
    if isinstance(value, str | list | tuple):
        hint = f"several are model.shapes: [{{{path.rpartition('.')[2]}: 64}}, {{{path.rpartition('.')[2]}: 512}}]"
        raise ConfigError(
            path, f"expected one whole number, not {show(value)}", f"{hint}; for others the original runs"
        )
    return value


# --- the schema --------------------------------------------------------------------------------

Effort = Literal["quick", "standard", "thorough"]
Count = Annotated[int, _between(1, 2**31)]
Seconds = Annotated[float, ReadBy(parse_duration)]
Shape = Annotated[tuple[int, ...], _shape]
Extent = Annotated[int, _between(0, MAX_ELEMENTS)]


@dataclass(frozen=True)
class EffortLevel:
    """What an effort fills in where neither the file nor a flag does. `early_stop` is a count of trials."""

    trials: int | None
    time_budget_s: float
    early_stop: int


EFFORTS: Mapping[str, EffortLevel] = {
    "quick": EffortLevel(None, 60.0, 64),
    "standard": EffortLevel(None, 600.0, 192),
    "thorough": EffortLevel(None, 3600.0, 512),
}


@dataclass(frozen=True)
class EffortSettings:
    """What no run file sets: numbers that an effort fixes, and those that are the same for all. Seconds.

    `certify_s` is for all kernels together, `compare_s` for whole models, `kernel_baselines_s` for all of a
    framework's kernels, `account_s` for where the tuned model's time goes; `compare_interrupted_s` and
    `compare_replayed_s` are for whole models after an interrupt and with recorded measurements, and `compare_rounds`
    rounds are run in any case. A first sample `give_up` times slower than the task's best is not worth another; a
    candidate `no_finalist` times slower will be none, so a few samples tell a model enough. `chunk` candidates are
    built before they are measured: enough to keep all workers busy, few enough to lose little at a deadline.
    """

    certify_s: float
    compare_s: float
    kernel_baselines_s: float
    compare_interrupted_s: float = 8.0
    compare_replayed_s: float = 0.5
    compare_rounds: int = 10
    account_s: float = 2.0
    rank_s: float = 1.0
    give_up: float = 3.0
    no_finalist: float = 1.5
    finalists: int = 5
    chunk: int = 16


SETTINGS: Mapping[str, EffortSettings] = {
    "quick": EffortSettings(certify_s=6.0, compare_s=8.0, kernel_baselines_s=6.0),
    "standard": EffortSettings(certify_s=30.0, compare_s=90.0, kernel_baselines_s=50.0),
    "thorough": EffortSettings(certify_s=150.0, compare_s=240.0, kernel_baselines_s=150.0),
}
"""By effort."""


@dataclass(frozen=True)
class ModelConfig:
    """`source`: `onnx:FILE`, `onnx:NAME` (one that the onnx package carries), `torch:package.module:callable`, or
    `llvm:FILE` (C, or LLVM IR) or `mlir:FILE` with its `function`, the `sizes` of its integer arguments, and whether
    its sums of floats may be reordered.

    `batch` None: static shapes are kept, and a dynamic batch is 1. `dims`: dynamic extents by the name of their symbol.
    `data`: inputs to verify and time with, a .npz file, a folder of some, or test_data_set folders. `shapes`: several
    shapes in one run, each by inputs or by symbols.
    """

    source: Annotated[
        str,
        _matching(
            r"(?:onnx|llvm|mlir):[^\x00-\x1f]*[^\s\x00-\x1f]|torch:[A-Za-z_][\w.]*:[A-Za-z_]\w*",
            "'onnx:FILE', 'onnx:NAME', 'torch:package.module:callable', 'llvm:FILE' or 'mlir:FILE'",
        ),
    ]
    batch: Annotated[int, _between(1, 65536)] | None = None
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    dims: Mapping[str, Extent] = field(default_factory=dict)
    weights: Literal["random", "original"] = "random"
    data: Annotated[str, _matching(r"[^\x00]+", "the name of a file or folder")] | None = None
    shapes: Annotated[tuple[Mapping[str, Extent | Shape], ...], _different, _each_some] = ()
    function: str = ""
    sizes: Mapping[str, Annotated[int, ReadBy(_one_size), _between(0, MAX_ELEMENTS)]] = field(default_factory=dict)
    allow_reassociation: bool = False

    @property
    def raised(self) -> bool:
        """Whether it is a function of a program, and no model of a framework."""
        return self.source.startswith(("llvm:", "mlir:"))


@dataclass(frozen=True)
class TargetConfig:
    """What to tune for: a kind of device by name (`devices.resolve.KINDS`), or a TVM target as a mapping.

    `threads` None: every core this process may use."""

    spec: str | Mapping[str, Any] = "auto"
    threads: Annotated[int, _between(1, 4096)] | None = None


KernelPass = Literal[
    "unroll", "vectorize", "vector_width", "llvm_opt", "storage_rewrite", "cse", "noalias", "fast_math", "async_copy",
    "merged_shared", "cuda_math", "ptxas_opt", "register_cap", "threads", "fuse", "bounds", "borders", "lanes",
    "balance", "coalesce", "bank_padding", "mma", "swizzle", "stream_k", "persist", "tensorize",
    "vector_math",
]  # fmt: skip
"""The passes of `kernels.passes`, in its order."""


@dataclass(frozen=True)
class PassesConfig:
    """What is searched besides schedules. `fast_math` and `cuda_math` must be both allowed and listed in `kernel`.

    `winograd`: 3x3 convolutions in packed layouts may be computed by Winograd's algorithm, which rounds differently.
    `attention`: attention may be one kernel. Passes that do nothing on the target are not searched.
    """

    layouts: Annotated[tuple[Literal["auto", "NCHW", "NHWC", "NCHW8c", "NCHW16c"], ...], _some, _distinct] = ("auto",)
    fusion_depths: Annotated[tuple[Annotated[int, _between(-1, 256)], ...], _some, _distinct] = (-1,)
    kernel: Annotated[tuple[KernelPass, ...], _distinct] = get_args(KernelPass)
    fast_math: bool = False
    winograd: bool = True
    attention: bool = True


@dataclass(frozen=True)
class SearchConfig:
    """`trials` None: bounded by time alone. `early_stop`: trials of one task without a better one."""

    strategy: Literal["guided", "tpe", "cmaes", "gp", "qmc", "random", "grid", "metaschedule"] = "guided"
    effort: Effort = "standard"
    trials: Count | None = EFFORTS["standard"].trials
    time_budget_s: Seconds = EFFORTS["standard"].time_budget_s
    early_stop: Count = EFFORTS["standard"].early_stop
    seed: Annotated[int, _between(0, 2**32 - 1)] = 0
    batch: Annotated[int, _between(1, 1024)] = 16
    reuse: bool = True


@dataclass(frozen=True)
class MeasureConfig:
    """`workers` None: one build worker a core. `mode`: the state of the caches when a kernel is timed, that inside of
    the model, hot or cold; None: the first of the device's modes."""

    workers: Annotated[int, _between(1, 1024)] | None = None
    build_timeout_s: Seconds = 30.0
    run_timeout_s: Seconds = 20.0
    mode: Literal["model", "hot", "cold"] | None = None
    database: Annotated[str, _matching(r"[a-z][a-z0-9_+]*://.*", "a database URL, e.g. sqlite:///records.db")] = (
        "sqlite:///results/records.db"
    )


ModelBaseline = Literal[
    "untuned", "torch", "torch_channels_last", "torch_compile", "torch_max_autotune", "onnxruntime", "openvino", "ncnn",
    "mnn",
]  # fmt: skip
"""What a user could run instead of the tuned model. One whose package is not installed becomes a note."""


@dataclass(frozen=True)
class BaselinesConfig:
    """`models`: baselines of the whole model. `kernels`: whether single kernels are compared with baselines too."""

    models: Annotated[tuple[ModelBaseline, ...], _distinct] = get_args(ModelBaseline)
    kernels: bool = True


@dataclass(frozen=True)
class ReportConfig:
    formats: Annotated[tuple[Literal["html", "md", "csv"], ...], _distinct] = ("html", "md", "csv")


@dataclass(frozen=True)
class ExportConfig:
    enabled: bool = True


Precision = Literal["float32", "float16", "bfloat16", "fp8", "int8", "auto"]
"""In what a model's layers compute, of `tuner.precisions`. float32: as the model says. auto: the fastest mix that keeps
the accuracy. Which a target has its kind of device says."""

Metric = Literal["top1", "top5", "cosine", "snr", "mse", "max_error"]
"""See `tuner.measure.quality`. Of mse and max_error less is better."""


@dataclass(frozen=True)
class AccuracyConfig:
    """What the tuned model must reach to be exported: `metric` on the samples of `data` (a .npz file; None: the inputs
    that the run verifies with) is `at_least` this, or `at_most`. Nothing is asked where both are None."""

    data: Annotated[str, _matching(r"[^\x00]+", "the name of a file")] | None = None
    metric: Metric = "cosine"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> float | None:
        """What the metric must reach; None where nothing is asked."""
        return self.at_least if self.at_least is not None else self.at_most


@dataclass(frozen=True)
class RunConfig:
    """One run, fully resolved. Only `model.source` has no default.

    `total_budget_s`: for everything from the start to the export; None: only the search is bounded.
    """

    model: ModelConfig
    target: TargetConfig = TargetConfig()
    passes: PassesConfig = PassesConfig()
    search: SearchConfig = SearchConfig()
    measure: MeasureConfig = MeasureConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    report: ReportConfig = ReportConfig()
    export: ExportConfig = ExportConfig()
    precision: Precision = "float32"
    accuracy: AccuracyConfig = AccuracyConfig()
    total_budget_s: Seconds | None = None
    out: Annotated[str, _matching(r"[^\x00]+", "the name of a folder")] = "results/runs"


# --- loading and writing -------------------------------------------------------------------------


def load(path: str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The configuration in the file `path`. `overrides` are dotted paths in the file's own spelling
    (`search.trials`, `search.time_budget`) and beat it. Raises ConfigError."""
    return parse(read_file(path, "run file"), path, overrides)


def parse(text: str, name: str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The configuration in `text`; `name` stands for the file in messages. Raises ConfigError."""
    from tuner import strict_yaml

    document = strict_yaml.load(text, name)
    if document is None:
        raise ConfigError(name, "the file is empty", "the least it needs is: model: {source: 'onnx:light_resnet50'}")
    if not isinstance(document, dict):
        raise ConfigError(name, f"expected a mapping of sections, not {show(document)}")
    if isinstance(target := document.get("target"), str) or _is_tvm_target(target):
        document["target"] = {"spec": target}
    for path, value in (overrides or {}).items():
        _override(document, path, value)
    check_keys(RunConfig, document)
    config: RunConfig = read(RunConfig, _with_effort(document))
    if config.passes.fast_math and "fast_math" not in config.passes.kernel:
        raise ConfigError("passes.fast_math", "true, but passes.kernel does not list 'fast_math'")
    _check_accuracy(config.accuracy)
    return config


_SHARES = ("top1", "top5", "cosine")


def _check_accuracy(accuracy: AccuracyConfig) -> None:
    metric, right, wrong = accuracy.metric, "at_least", "at_most"
    if metric in LESS_IS_BETTER:
        right, wrong = wrong, right
    if getattr(accuracy, wrong) is not None:
        raise ConfigError(f"accuracy.{wrong}", f"{metric} is bounded from the other side", f"write {right}: ...")
    bound = getattr(accuracy, right)
    if bound is None and accuracy.data is not None:
        raise ConfigError(f"accuracy.{right}", f"missing: what {metric} must reach on accuracy.data")
    if bound is None:
        return
    if (
        not math.isfinite(bound)
        or (metric in LESS_IS_BETTER and bound < 0)
        or (metric in _SHARES and not -1 <= bound <= 1)
    ):
        kind = "a share of at most 1" if metric in _SHARES else "a finite number, for an error 0 or more"
        raise ConfigError(f"accuracy.{right}", f"expected {kind}, not {show(bound)}")


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as a run file; loading it gives an equal one."""
    from tuner import strict_yaml

    return strict_yaml.dump(plain(config))


def read_file(path: str, kind: str) -> str:
    """The text of a configuration file; `kind` is what it should be, in words. Raises ConfigError, naming the file."""
    if not os.path.exists(path):
        folder = os.path.dirname(path) or "."
        names = os.listdir(folder) if os.path.isdir(folder) else []
        near = difflib.get_close_matches(os.path.basename(path), names, 1)
        hint = f"did you mean {os.path.join(os.path.dirname(path), near[0])}?" if near else ""
        raise ConfigError(path, "no such file", hint)
    if not os.path.isfile(path):
        raise ConfigError(path, "not a regular file")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(path, f"over {MAX_FILE_BYTES} bytes; this is no {kind}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(path, f"not UTF-8 text (byte {error.start})") from error


def _override(document: dict[str, Any], path: str, value: Any) -> None:
    *sections, key = path.split(".")
    for section in sections:
        if document.get(section) is None:
            document[section] = {}
        if not isinstance(document[section], dict):
            return  # the file is wrong there, and reading it will say so
        document = document[section]
    document[key] = value


def _is_tvm_target(value: Any) -> bool:
    return isinstance(value, dict) and ("kind" in value or "tag" in value)


def _with_effort(document: dict[str, Any]) -> dict[str, Any]:
    search = document.get("search") or {}
    effort = search.get("effort", SearchConfig.effort) if isinstance(search, dict) else None
    if not isinstance(effort, str) or effort not in EFFORTS:
        return document
    usual = plain(EFFORTS[effort])
    if (total := document.get("total_budget")) not in (None, "auto"):
        usual["time_budget"] = parse_duration(
            total, "total_budget"
        )  # the search may take all that the rest leaves of it
    return {**document, "search": {**usual, **search}}
