"""How much memory a model of over 2 GiB takes until it can be called, and how long large graphs take to come in.

    python experiments/large_model/run.py [--folder DIR] [--gib 2.1] [--stages import build onnxruntime] [--out FILE]

Each stage runs in a process of its own; its largest resident set is what the kernel counted, its seconds are those of
the CPU.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import give_result, run_script, write_json

WIDTH = 2048
STAGES = ("import", "random", "build", "onnxruntime")
"""`import` and `random` load the model with its own and with drawn weights; `build` and `onnxruntime` call it."""

NODES = (500, 1000, 2000)


def write_model(folder: Path, gib: float) -> Path:
    """Stacked products of a matrix each, whose weights lie in one file beside the graph."""
    count = round(gib * 2**30 / (WIDTH * WIDTH * 4))
    weights, nodes, rng = [], [], np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "weights.bin").open("wb") as file:
        for index in range(count):
            offset = file.tell()
            rng.standard_normal((WIDTH, WIDTH), dtype=np.float32).__imul__(np.float32(WIDTH**-0.5)).tofile(file)
            tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", offset), ("length", file.tell() - offset)):
                tensor.external_data.add(key=key, value=str(value))
            weights.append(tensor)
            nodes.append(helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"x{index + 1}"], name=f"n{index}"))
    shape = [1, WIDTH]
    graph = helper.make_graph(
        nodes, "stacked",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, shape)],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = folder / "large.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def write_long(path: Path, count: int) -> Path:
    """So many nodes: residual blocks of a convolution, a batch norm, an addition, an activation."""
    rng, channels = np.random.default_rng(0), 8
    stored: dict[str, np.ndarray] = {
        "w": rng.standard_normal((channels, channels, 3, 3)).astype(np.float32) / 9,
        **{name: np.ones(channels, np.float32) for name in ("scale", "variance")},
        **{name: np.zeros(channels, np.float32) for name in ("shift", "mean")},
    }
    nodes, value = [], "x"
    for index in range(count // 4):
        a, b, c, d = (f"{letter}{index}" for letter in "abcd")
        nodes += [
            helper.make_node("Conv", [value, "w"], [a], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [a, "scale", "shift", "mean", "variance"], [b]),
            helper.make_node("Add", [b, value], [c]),
            helper.make_node("Relu", [c], [d]),
        ]
        value = d
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 8, 8]) for name in ("x", value)]
    weights = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "long", info[:1], info[1:], weights)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def stage(name: str, path: Path) -> None:
    """One stage, in this process."""
    from tuner import importers

    began = time.process_time()
    weights = "random" if name == "random" else "original"
    model_spec = importers.make_model_spec(f"onnx:{path}", None, {}, weights, 0)
    result = {}
    if name == "onnxruntime":
        result["output"] = _by_runtime(model_spec)
    else:
        model = importers.load(f"onnx:{path}", None, {}, weights, 0)
        result["import_s"] = time.process_time() - began
        if name == "build":
            result["output"] = _by_tvm(model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    give_result({**result, "seconds": time.process_time() - began, "peak_gib": peak / 2**30})


def _input() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, WIDTH), dtype=np.float32)


def _by_tvm(model: object) -> float:
    """The first element that the untuned build answers."""
    import tvm
    from tvm import relax
    from tvm.target import Target

    from tuner.graph.build import build_untuned
    from tuner.graph.clean import clean

    built = build_untuned(clean(model.module), Target("llvm"))  # type: ignore[attr-defined]
    machine = relax.VirtualMachine(built, tvm.cpu())
    return float(machine["main"](tvm.runtime.tensor(_input())).numpy()[0, 0])


def _by_runtime(model_spec: dict[str, object]) -> float:
    from tuner import importers
    from tuner.baselines.onnxruntime import OnnxRuntime
    from tuner.baselines.worker import shared_in

    with tempfile.TemporaryDirectory() as folder:
        baseline = OnnxRuntime(shared_in(Path(folder), importers.onnx_bytes))
        prepared = baseline.load(model_spec, 1).prepare([_input()])
        prepared.launch(1)
        return float(prepared.outputs()[0][0, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the models are written; a temporary folder by default")
    parser.add_argument("--gib", type=float, default=2.1)
    parser.add_argument("--stages", nargs="*", default=STAGES, choices=STAGES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--stage", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        stage(options.stage[0], Path(options.stage[1]))
        return
    results: dict[str, object] = {"gib": options.gib, "stages": {}, "import_s": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path = write_model(folder, options.gib)
        for name in options.stages:
            results["stages"][name] = run_script(__file__, ["--stage", name, str(path)])  # type: ignore[index]
            print(name, results["stages"][name], flush=True)  # type: ignore[index]
        for count in NODES:
            long = write_long(folder / f"long{count}.onnx", count)
            seconds = run_script(__file__, ["--stage", "import", str(long)])["import_s"]
            results["import_s"][count] = seconds  # type: ignore[index]
            print(count, "nodes:", f"{seconds:.2f} s", flush=True)
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    main()
