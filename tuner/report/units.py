"""Numbers as people read them: three significant digits, a unit that fits, names written out."""

from __future__ import annotations

from collections.abc import Sequence

MISSING = "–"

_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BASELINES = {
    "untuned": "untuned TVM",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch channels_last",
    "torch_compile": "torch.compile",
    "torch_max_autotune": "torch.compile, max-autotune",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime_cuda": "ONNX Runtime CUDA",
    "onnxruntime_cuda_graph": "ONNX Runtime CUDA, one graph",
    "onnxruntime_cuda_fp16": "ONNX Runtime CUDA, float16",
    "onnxruntime_cuda_int8": "ONNX Runtime CUDA, int8",
    "openvino": "OpenVINO",
    "openvino_bf16": "OpenVINO, bfloat16",
    "openvino_int8": "OpenVINO, int8",
    "onnxruntime_int8": "ONNX Runtime, int8",
    "torch_bf16": "PyTorch, bfloat16",
    "torch_compile_bf16": "torch.compile, bfloat16",
    "torch_graph_bf16": "PyTorch, one CUDA graph, bfloat16",
    "torch_fp16": "PyTorch, float16",
    "torch_compile_fp16": "torch.compile, float16",
    "torch_graph_fp16": "PyTorch, one CUDA graph, float16",
    "mnn": "MNN",
    "clblast": "clBLAST",
    "clblast_product": "clBLAST, the product alone",
}


def baseline_name(key: str) -> str:
    """A baseline's key in words, that of one on the host's CPU ending in `_cpu`; an unknown key stands for itself."""
    on_host = key.removesuffix("_cpu")
    if key != on_host and on_host in _BASELINES:
        return f"{_BASELINES[on_host]} on the CPU"
    return _BASELINES.get(key, key)


def in_state(state: str | None) -> str:
    """A state of the machine's CPUs, as part of a sentence that goes on; "" where there is but one."""
    if state in ("together", "apart"):
        return f" with the CPUs {state}"
    return {"mixed": " with the CPUs in changing states", "unknown": " with the CPUs in an unknown state"}.get(
        state or "", ""
    )


def nanoseconds(value: float | None) -> str:
    return MISSING if value is None else f"{digits(1e9 * value)} ns"


def mebibytes(value: int | None) -> str:
    return MISSING if value is None else f"{digits(value / 2**20)} MiB"


def digits(value: float | None) -> str:
    """Three significant digits: 0.0123, 1.20, 43.1, 1,230."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 999.5:
        return f"{value:#.3g}".removesuffix(".")
    if 999.5 <= abs(value) < 1e7:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def seconds(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A time in the unit that fits it, with its interval in the same unit: `43.1 ms [42.8, 43.5]`."""
    if value is None:
        return MISSING
    scale, unit = time_unit(value)
    text = f"{digits(value / scale)} {unit}"
    if interval is None:
        return text
    return f"{text} [{digits(interval[0] / scale)}, {digits(interval[1] / scale)}]"


def milliseconds(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A time of a whole model, with its interval: `43.1 ms [42.8, 43.5]`. One unit, so that a column compares."""
    if value is None:
        return MISSING
    text = f"{digits(1e3 * value)} ms"
    return text if interval is None else f"{text} [{digits(1e3 * interval[0])}, {digits(1e3 * interval[1])}]"


def time_unit(value: float) -> tuple[float, str]:
    """Seconds in one unit, and its name: the largest unit in which `value` is at least 1."""
    for scale, unit in _TIME_UNITS:
        if value >= scale * 0.9995:
            return scale, unit
    return _TIME_UNITS[-1]


def duration(value: float | None) -> str:
    """A stretch of wall-clock time: `45.2 s`, `10 min 3 s`, `1 h 2 min`."""
    if value is None:
        return MISSING
    if value < 99.5:
        return seconds(value) if value > 0 else "0 s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def speedup(value: float | None) -> str:
    """A speedup, how many times as fast: `×1.05`."""
    return MISSING if value is None else f"×{digits(value)}"


def change(value: float | None) -> str:
    """A relative change with its sign: `+1.2 %`."""
    return MISSING if value is None else f"{100 * value:+.1f} %"


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"


def count(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"
